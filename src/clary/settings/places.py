"""Where a server keeps its sockets."""

import os
from pathlib import Path


def run_dir(data_dir: Path) -> Path:
    """Return the directory for sockets of a running server, not yet made.

    It lies in the data directory, unless that has so long a path that Unix sockets (108 bytes)
    would not fit: then it is a private directory of the user under the system's temporary one.
    """
    inside = data_dir / "run"
    if len(str(inside)) <= 60:
        return inside
    import hashlib  # noqa: PLC0415 - rarely needed, and start-up time counts

    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - made with 0700
    return base / f"clary-{os.getuid()}-{digest}"
