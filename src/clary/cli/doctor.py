"""`clary doctor`: what is wrong with this machine or this server, and what to do about it.

Each check is a function from what it looks at to a ``Finding``; ``run`` gathers and prints them.
"""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

from rich.text import Text

from clary.cli import local, shell
from clary.cli.api import Api, Refused
from clary.cli.failure import CommandFailed
from clary.cli.output import STATUS_STYLES, size_text, stdout
from clary.errors import Error
from clary.settings import Settings

LOW_DISK_BYTES = 5 * 1000**3
NO_DISK_BYTES = 500 * 1000**2

CLOCK_SKEW_S = 300
"""AWS refuses signatures that are more than five minutes old."""

NO_SERVER = "not checked, as no server answers"

ROLES = tuple(
    f"clary-{role}"
    for role in (
        "supervisor",
        "gateway",
        "control",
        "objects",
        "jobs",
        "host",
        "worker",
        "template",
    )
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    status: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


def run(settings: Settings) -> None:
    """Print every finding.

    Raises:
        CommandFailed: At least one check failed.
    """
    settings = local.running_settings(settings)
    url = f"http://{shell.reachable_host(settings.server.host)}:{settings.server.port}"
    api = Api({"AWS_ENDPOINT_URL": url, **os.environ})
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", lambda: check_python(sys.version_info[:3])),
        ("uv", check_uv),
        ("data", lambda: check_data_dir(settings.data_dir)),
        ("disk", lambda: check_disk(shutil.disk_usage(_existing(settings.data_dir)).free)),
        ("keys", lambda: check_keys(settings)),
        ("port", lambda: check_port(settings, url)),
        ("server", lambda: check_server(api)),
        ("access", lambda: check_access(api)),
        ("clock", lambda: check_clock(api, datetime.now(UTC))),
        ("processes", lambda: check_processes(_command_lines(), _parents())),
    )
    console = stdout()
    failed = False
    for name, check in checks:
        try:
            finding = check()
        except (Error, OSError) as error:
            finding = Finding("warn", f"could not be checked: {error}")
        failed |= finding.status == "fail"
        console.print(
            Text.assemble(
                (f"{finding.status:<5}", STATUS_STYLES[finding.status]),
                (f"{name:<10}", "bold"),
                finding.what,
            )
        )
        if finding.advice:
            console.print(f"{'':15}→ {finding.advice}", markup=False)
    if failed:
        raise CommandFailed


def check_python(version: tuple[int, ...]) -> Finding:
    """Clary needs 3.11; the models' interpreters may be older."""
    text = ".".join(map(str, version))
    if version < (3, 11):
        return Finding("fail", f"Python {text}", "install Clary with Python 3.11 or newer")
    return Finding("ok", f"Python {text} at {sys.executable}")


def check_uv() -> Finding:
    """``uv`` builds the environments of models with a requirements.txt."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        return Finding(
            "fail",
            "uv is not installed",
            "models with a requirements.txt cannot be deployed: pip install uv",
        )
    return Finding("ok", found)


def check_data_dir(directory: Path) -> Finding:
    """The data directory must be there, or be makeable, and be ours to write."""
    place = _existing(directory)
    if not place.is_dir():
        return Finding("fail", f"{place} is no directory", "name another one with --data-dir")
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            "fail", f"{place} is not writable", "change its owner, or use --data-dir elsewhere"
        )
    if place != directory:
        return Finding("ok", f"{directory} (made at the first start)")
    return Finding("ok", str(directory))


def check_disk(free: int) -> Finding:
    """Model archives are unpacked, and environments built, in the data directory."""
    text = f"{size_text(free)} free"
    if free < NO_DISK_BYTES:
        return Finding("fail", text, "deployments will fail; free some space")
    if free < LOW_DISK_BYTES:
        return Finding("warn", text, "larger models and their environments may not fit")
    return Finding("ok", text)


def check_keys(settings: Settings) -> Finding:
    """With authentication on and no key, nobody gets in."""
    count = len(local.load_keys(settings))
    if settings.auth_is_on and not count:
        return Finding("fail", "authentication is on and there is no key", "clary keys create")
    state = "on" if settings.auth_is_on else "open: any credentials will do"
    return Finding("ok", f"authentication is {state}; {count} {'key' if count == 1 else 'keys'}")


def check_port(settings: Settings, url: str) -> Finding:
    """The port is free, or taken by this very server."""
    server = settings.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host.strip("[]"), server.port))
        except OSError as error:
            try:
                Api({**os.environ, "AWS_ENDPOINT_URL": url}).health()
            except Refused:
                pass
            except CommandFailed:
                return Finding(
                    "fail",
                    f"port {server.port} on {server.host}: {error.strerror}",
                    "another program has it: stop that, or use `clary up --port`",
                )
            return Finding("ok", f"{server.port}, where a server answers")
    return Finding("ok", f"{server.port} is free")


def check_server(api: Api) -> Finding:
    """Whether a server answers where clients look for it, and what it thinks of itself."""
    try:
        health = api.health()
    except Refused as error:
        return Finding("warn", f"{api.url} answers, but is not well: {error.message}")
    except CommandFailed as error:
        return Finding("warn", error.message)
    return Finding("ok", f"{api.url} answers, version {health.get('version', 'unknown')}")


def check_access(api: Api) -> Finding:
    """Whether this environment's credentials are good for the server."""
    try:
        identity = api.call("sts", "get_caller_identity")
    except Refused as error:
        return Finding("fail", error.message, 'eval "$(clary env)" sets credentials that work')
    except CommandFailed:
        return Finding("warn", NO_SERVER)
    return Finding("ok", identity["Arn"])


def check_clock(api: Api, now: datetime) -> Finding:
    """Ask the server for its time and compare."""
    try:
        return compare_clocks(api.server_date(), now)
    except CommandFailed:
        return Finding("warn", NO_SERVER)


def compare_clocks(server_date: str | None, now: datetime) -> Finding:
    """A clock that is off makes every signature look too old or too new.

    Args:
        server_date: The server's ``Date`` header.
        now: This machine's time.
    """
    if server_date is None:
        return Finding("warn", "the server did not tell its time")
    skew = abs((parsedate_to_datetime(server_date) - now).total_seconds())
    if skew > CLOCK_SKEW_S:
        return Finding(
            "fail",
            f"{skew:.0f} s apart from the server's",
            "signatures are refused: set the clocks right",
        )
    return Finding("ok", "agrees with the server's")


def check_processes(commands: Mapping[int, str], parents: Mapping[int, int]) -> Finding:
    """Processes of a server whose supervisor is gone.

    Args:
        commands: Command lines of this user's processes by pid.
        parents: Parent by pid.
    """
    stale = [
        pid
        for pid, command in commands.items()
        if any(role in command for role in ROLES[1:])
        and not _has_supervisor(pid, commands, parents)
    ]
    if stale:
        pids = " ".join(map(str, sorted(stale)))
        return Finding("warn", f"left without a supervisor: {pids}", f"kill {pids}")
    return Finding("ok", "none left behind by an earlier server")


def _has_supervisor(pid: int, commands: Mapping[int, str], parents: Mapping[int, int]) -> bool:
    while pid in commands:
        if ROLES[0] in commands[pid]:
            return True
        pid = parents.get(pid, 0)
    return False


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that exists."""
    return next(place for place in (directory, *directory.parents) if place.exists())


def _command_lines() -> dict[int, str]:
    """Command lines of this user's processes."""
    lines = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == os.getuid():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                lines[int(entry.name)] = os.fsdecode(b" ".join(words))
        except OSError:
            continue
    return lines


def _parents() -> dict[int, int]:
    """Every process's parent."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2]
            parents[int(entry.name)] = int(after_name.split()[1])
        except (OSError, IndexError):
            continue
    return parents
