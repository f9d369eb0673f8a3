"""A server of the user's own: through the gateway, and the very same process called directly."""

import re

from benchmarks import HERE, contenders
from benchmarks.groups.echo import BODY
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ratios
from server import Server

THROUGH = "user's FastAPI server behind Clary"
DIRECT = "the same process, called directly"


def run(bench: Bench) -> Report:
    report = Report("A user's FastAPI server, JSON echo")
    with contenders.clary(bench.directory) as server:
        server.deploy(
            "user",
            {"code/server.py": (HERE / "servers" / "user_server.py").read_bytes()},
            image="clary/server:latest",
            environment={"CLARY_APP": "server:app", **contenders.ONE_WORKER},
        )
        through = contenders.invocation(server, "user", BODY, "application/json")
        direct = Request(f"http://127.0.0.1:{_port(server)}/invocations", BODY)
        requests = {THROUGH: through, DIRECT: direct}
        report.loads += bench.interleave(
            requests, (THROUGH, 64), (DIRECT, 64), (THROUGH, 1), (DIRECT, 1)
        )
    report.checks.append(
        Check(
            "user's server behind the gateway, of directly",
            ratios(report.find(THROUGH), report.find(DIRECT)),
            0.9,
            "x",
        )
    )
    return report


def _port(server: Server) -> int:
    for command in server.processes().values():
        if "uvicorn" in command and (found := re.search(r"--port (\d+)", command)):
            return int(found[1])
    raise RuntimeError(f"no uvicorn among {server.processes()}")
