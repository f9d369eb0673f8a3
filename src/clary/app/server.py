"""Turns settings into a running server: directories, a plan, and the supervisor.

``clary up`` ends here: its process becomes the supervisor, so that the pid that a script started
is the one it has to stop.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from clary import __version__
from clary.app.otel import check_extra
from clary.errors import ConfigurationError
from clary.settings import Settings, dump_settings, run_dir
from clary.supervisor import Plan, Role

CORES_PER_GATEWAY = 4

ON_DEMAND = ("jobs", "neighbours")
"""Roles that are started when somebody first connects to ``R/<role>.sock``: each is a module of
this package."""


def start_server(settings: Settings) -> NoReturn:
    """Become the supervisor of a server with these settings.

    Raises:
        ConfigurationError: The data directory cannot be used.
    """
    plan_file = prepare(settings)
    sys.stdout.flush()
    argv = [sys.executable, "-m", "clary.supervisor", "clary-supervisor", str(plan_file)]
    os.execv(sys.executable, argv)  # noqa: S606 - our own interpreter, our own arguments


def prepare(settings: Settings) -> Path:
    """Make the directories and write the plan; return its file.

    Raises:
        ConfigurationError: The data directory cannot be used, or a library is missing.
    """
    check_extra(settings.otel)
    data_dir = settings.data_dir
    run = run_dir(data_dir)
    logs = data_dir / "logs" / "server"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        _write(run / "settings.json", dump_settings(settings))
        plan_file = run / "plan.json"
        _write(plan_file, make_plan(settings).to_json())
    except OSError as error:
        raise ConfigurationError(
            f"{data_dir} cannot be written: {error.strerror}. Choose another directory with "
            "--data-dir, or mend its owner, mode or free space",
            "server.data_dir",
        ) from error
    if run.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{run} belongs to another user", "server.data_dir")
    return plan_file


def make_plan(settings: Settings) -> Plan:
    """Return the processes that a server with these settings has."""
    run = run_dir(settings.data_dir)
    gateways = gateway_count(settings)
    roles = [_role("control", run)]
    if not settings.storage.s3_endpoint_url:
        roles.append(_role("objects", run))
    roles += [_role("gateway", run, index) for index in range(gateways)]
    roles += [_on_demand(kind, run) for kind in ON_DEMAND]
    return Plan(
        data_dir=str(settings.data_dir),
        run_dir=str(run),
        log_dir=str(settings.data_dir / "logs" / "server"),
        host=settings.server.host,
        port=settings.server.port,
        roles=roles,
        banner=(
            f"Clary {__version__} listens on {{url}} (data in {settings.data_dir}). "
            'Use it with:  eval "$(clary env)"'
        ),
    )


def gateway_count(settings: Settings) -> int:
    """Return how many gateway processes a server with these settings has."""
    return settings.gateway.processes or max((os.cpu_count() or 1) // CORES_PER_GATEWAY, 1)


def _role(kind: str, run: Path, index: int | None = None) -> Role:
    name = kind if index is None else f"{kind}-{index}"
    argv = [sys.executable, "-m", f"clary.app.{kind}", f"clary-{kind}", str(run)]
    if index is not None:
        argv.append(str(index))
    return Role(name=name, argv=argv, gets_port=kind == "gateway")


def _on_demand(kind: str, run: Path) -> Role:
    argv = [sys.executable, "-m", f"clary.app.{kind}", "clary-jobs", str(run)]
    if kind != "jobs":
        argv.append(kind)  # one word for all of them: few names to know in a list of processes
    return Role(name=kind, argv=argv, socket=str(run / f"{kind}.sock"))


def _write(path: Path, text: str) -> None:
    """Replace a file that only its owner may read."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)
