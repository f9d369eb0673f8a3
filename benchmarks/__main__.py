"""Run the benchmarks and write ``RESULTS.md`` and ``results.json``.

    python -m benchmarks                      all of them, in about half an hour
    python -m benchmarks --only echo,deploy   some of them
    python -m benchmarks --quick              each for a moment, to see that it works

Only a whole run that is not quick replaces the results in the repository. With ``--merge`` a run
of some groups replaces theirs, and the page says when they were measured. Other runs are written to
``.benchmarks/``.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import HERE, ROOT, frameworks, table, tools
from benchmarks.results import QUICK, Bench, Plan, Report

GROUPS = (
    "echo",
    "sklearn",
    "command",
    "large",
    "streaming",
    "pipeline",
    "deploy",
    "start",
    "objects",
    "many",
    "metrics",
    "shadow",
    "capture",
    "async_",
    "transform",
    "batching",
    "multi_model",
    "serverless",
    "alarms",
    "scaling",
    "evaluation",
)
ON_REQUEST = ("embeddings",)
"""Groups that run only when they are named: this one installs PyTorch first."""
FRAMEWORKS = "frameworks"
"""The group that runs when `make bench-peers` has installed what it compares."""


def main() -> int:
    arguments = _parse()
    try:
        tools.install()
    except tools.Missing as error:
        print(error, file=sys.stderr)
        return 1
    plan = QUICK if arguments.quick else Plan()
    machine = table.this_machine()
    began = time.monotonic()
    reports = [_run(name, plan) for name in arguments.only]
    minutes = (time.monotonic() - began) / 60
    is_whole = set(GROUPS) <= set(arguments.only) and not plan.is_quick
    versions = {**tools.versions(), **frameworks.versions()}
    if arguments.merge:
        directory = HERE
        last = table.read(directory)
        last.merge(reports, machine.at)
        text = table.write(
            directory, last.reports, last.plan, last.machine, last.versions, last.minutes
        )
    else:
        directory = HERE if is_whole else ROOT / ".benchmarks"
        text = table.write(directory, reports, plan, machine, versions, minutes)
    print(f"\n{text}\nwritten to {directory.relative_to(ROOT)}/{table.PAGE}")
    return 1 if any(report.failure for report in reports) else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only",
        type=_names,
        default=(*GROUPS, *([FRAMEWORKS] if frameworks.versions() else [])),
        metavar="NAME,...",
        help=f"groups to run, of {', '.join((*GROUPS, FRAMEWORKS))}; on request "
        + ", ".join(ON_REQUEST),
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="one short round of everything")
    how.add_argument(
        "--merge", action="store_true", help="replace these groups' results in the repository"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - {*GROUPS, *ON_REQUEST, FRAMEWORKS}:
        raise argparse.ArgumentTypeError(f"no groups: {', '.join(sorted(unknown))}")
    return names


def _run(name: str, plan: Plan) -> Report:
    print(f"{name} ...", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="clary-bench-"))
    try:
        report: Report = importlib.import_module(f"benchmarks.groups.{name}").run(
            Bench(plan, directory)
        )
    except Exception as error:  # one group that fails must not cost the others' results
        traceback.print_exc()
        report = Report(name, failure=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return report


if __name__ == "__main__":
    sys.exit(main())
