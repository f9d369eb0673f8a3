"""Runs the plan named on the command line: ``clary-supervisor <plan.json>``."""

import sys
from pathlib import Path
from typing import NoReturn

from clary.supervisor.plan import Plan
from clary.supervisor.sockets import Refusal
from clary.supervisor.supervisor import Supervisor


def main() -> NoReturn:
    """Supervise until told to stop."""
    plan = Plan.from_json(Path(sys.argv[2]).read_text())
    try:
        status = Supervisor(plan).run()
    except Refusal as refusal:
        print(f"clary: {refusal}", file=sys.stderr)  # noqa: T201
        status = 1
    raise SystemExit(status)


if __name__ == "__main__":
    main()
