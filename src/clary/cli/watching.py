"""`clary deploy --watch`: deploy again whenever a file changes, whatever happens in between."""

import time
from collections.abc import Mapping
from pathlib import Path

from clary.cli.api import Api
from clary.cli.deploying import deploy_and_report
from clary.cli.deployment import Deployment
from clary.cli.failure import CommandFailed
from clary.cli.output import stderr
from clary.cli.packing import layout

POLL_S = 0.3

# Editors write several files one after another; a deployment of half of them would only fail.
SETTLE_S = 0.2

Snapshot = Mapping[str, tuple[int, int]]
"""Time of change in ns and size in bytes, by path."""


def deploy_on_change(api: Api, wanted: Deployment) -> None:
    """Deploy, wait for a change, deploy again, until interrupted.

    A deployment that fails is reported, and the next change tries again.
    """
    console = stderr()
    while True:
        before = snapshot(wanted)
        try:
            deploy_and_report(api, wanted)
        except CommandFailed as error:
            if error.message:
                console.print(f"clary: {error.message}", style="red", markup=False)
        console.print(f"watching {wanted.source} (Ctrl-C ends)", style="dim", markup=False)
        after = _next(wanted, before)
        console.print(f"\nchanged: {', '.join(changed(before, after))}", markup=False)


def snapshot(wanted: Deployment) -> Snapshot:
    """Return what the deployed files look like now; empty when they cannot be read."""
    if not wanted.source.is_dir():
        files = [wanted.source]
    else:
        try:
            files = [m.source for m in layout(wanted.source, own_server=wanted.own_server)]
        except (CommandFailed, OSError):
            return {}
    return {str(file): look for file in files if (look := _look(file))}


def changed(before: Snapshot, after: Snapshot) -> list[str]:
    """Return the names of files that came, went or changed."""
    paths = before.keys() | after.keys()
    return sorted(Path(path).name for path in paths if before.get(path) != after.get(path))


def _next(wanted: Deployment, before: Snapshot) -> Snapshot:
    """Wait for a change, and until nothing has changed for a moment."""
    while (now := snapshot(wanted)) == before:
        time.sleep(POLL_S)
    while True:
        time.sleep(SETTLE_S)
        later = snapshot(wanted)
        if later == now:
            return now
        now = later


def _look(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
