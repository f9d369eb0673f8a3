"""A shell as a reader of the guides has it."""

import subprocess
from pathlib import Path

from server import CLARY, Server


def in_a_terminal(
    server: Server, script: str, directory: Path, *, timeout_s: float = 90
) -> subprocess.CompletedProcess[str]:
    """Run lines in a shell that has nothing but `eval "$(clary env)"` before them."""
    environ = {
        name: value for name, value in server.environ().items() if not name.startswith("AWS_")
    }
    environ["PATH"] = f"{CLARY.parent}:{environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-ec", f'eval "$(clary env)"\n{script}'],
        env={**environ, "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
