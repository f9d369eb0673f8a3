"""Entry of an instance host, started by path.

``<clary's python> -I -S <site>/clary/worker/host_main.py clary-host <endpoint>/<variant>/<instance>
<spec.json>``

Without site-packages (``-S``), for a host needs none of them and there may be hundreds of hosts.
"""

import importlib.util
import os
import sys
from typing import List


def main(arguments: List[str]) -> int:
    """Run the host of one instance; return its exit status."""
    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "clary_worker_main", os.path.join(here, "main.py")
    )
    assert spec is not None
    assert spec.loader is not None
    entry = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(entry)
    entry.install_package()
    # Importable from here on.
    from clary.worker.hosting import run_host  # noqa: PLC0415

    return run_host(identity=arguments[2], spec_path=arguments[3])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
