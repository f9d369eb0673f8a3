"""Runs the host that an instance needs."""

import os
from typing import Type

from clary.worker.host import Host
from clary.worker.spec import read_spec


def run_host(identity: str, spec_path: str) -> int:
    """Run the host of one instance until it is stopped; return its exit status.

    Args:
        identity: ``<endpoint>/<variant>/<instance>``; handed on to the workers' command lines.
        spec_path: Path of ``spec.json``.
    """
    spec = read_spec(spec_path)
    os.makedirs(spec.run_dir, mode=0o700, exist_ok=True)
    lifeline = os.environ.get("CLARY_LIFELINE_FD", "")
    kind: Type[Host] = Host
    if spec.containers[0].scaled:
        # Here, for every other host would pay for it with memory.
        from clary.worker.scaled_host import ScaledHost  # noqa: PLC0415

        kind = ScaledHost
    kind(identity, spec_path, spec, int(lifeline) if lifeline else None).run()
    return 0
