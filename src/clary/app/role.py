"""What all roles do around their own work: settings in, lifeline watched, errors told."""

import asyncio
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import uvloop

from clary.errors import ConfigurationError
from clary.settings import Settings, parse_settings
from clary.supervisor import EXIT_CONFIGURATION

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a role is told at its start."""

    name: str
    run_dir: Path
    settings: Settings
    life: str
    """Name of this run of the server."""

    url: str
    """Where the server listens, as its own children reach it."""

    stopping: asyncio.Event
    """Set when the role has to end: SIGTERM, or the supervisor is gone."""


def run_role(name: str, main: Callable[[Context], Awaitable[None]]) -> NoReturn:
    """Run a role until it is told to stop, then leave.

    The command line is ``clary-<role> <run dir> [<index>]``.

    Args:
        name: Name of the role, for its error file; as in the supervisor's plan.
        main: The role's work; returns after ``context.stopping`` is set.
    """
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)
    run_dir = Path(sys.argv[2])
    _raise_file_limit()
    try:
        uvloop.run(_run(name, run_dir, main))
        status = 0
    except ConfigurationError as error:
        (run_dir / f"{name}.error").write_text(str(error))
        print(f"clary: {error}", file=sys.stderr)  # noqa: T201
        status = EXIT_CONFIGURATION
    raise SystemExit(status)


async def _run(name: str, run_dir: Path, main: Callable[[Context], Awaitable[None]]) -> None:
    server = json.loads((run_dir / "server.json").read_text())
    context = Context(
        name=name,
        run_dir=run_dir,
        settings=parse_settings((run_dir / "settings.json").read_text()),
        life=server["life"],
        url=server["url"],
        stopping=asyncio.Event(),
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, context.stopping.set)
    loop.add_signal_handler(signal.SIGINT, context.stopping.set)
    lifeline = os.environ.get("CLARY_LIFELINE_FD")
    if lifeline is not None:
        # Nothing is ever written to it: readable means that the supervisor is gone.
        loop.add_reader(int(lifeline), context.stopping.set)
    await main(context)


def _raise_file_limit() -> None:
    """Allow as many open connections as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
