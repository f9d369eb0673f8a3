"""`clary up` until its first answers, and the memory of each process of an idle server."""

import http.client
import statistics
import time
from pathlib import Path

from benchmarks import contenders
from benchmarks.processes import proportional_mb, resident_mb
from benchmarks.results import Bench, Check, Report, ValueRow
from server import Server, wait_for

ROLES = ("supervisor", "gateway", "control", "objects", "host", "worker")
SETTLE_S = 2.0


def run(bench: Bench) -> Report:
    report = Report("Start and memory")
    times = [
        _first_answer(bench.directory / f"start-{number}") for number in range(bench.plan.starts)
    ]
    median = statistics.median(times)
    report.values.append(
        ValueRow(
            "`clary up` to ListEndpoints answered",
            median,
            "s",
            f"{min(times):.2f} to {max(times):.2f}",
        )
    )
    with contenders.clary(bench.directory / "memory") as server:
        time.sleep(SETTLE_S)
        idle = memory(server)
        server.deploy("echo", contenders.files_of("echo"), environment=contenders.ONE_WORKER)
        time.sleep(SETTLE_S)
        deployed = memory(server)
    rows = {**idle, **{role: deployed[role] for role in ("host", "worker")}}
    for role, (resident, proportional) in rows.items():
        report.values.append(
            ValueRow(f"{role}, resident", resident, "MB", f"{proportional:.1f} MB proportional")
        )
    whole = sum(resident for resident, _ in idle.values())
    report.values.append(ValueRow("idle server without endpoints, resident", whole, "MB"))
    report.checks += [
        Check("`clary up` to first answer", tuple(times), 1.5, "s", at_most=True),
        Check("memory: gateway", rows["gateway"][0], 60, "MB", at_most=True),
        Check("memory: control", rows["control"][0], 150, "MB", at_most=True),
        Check("memory: idle server", whole, 350, "MB", at_most=True),
        Check("memory: idle worker without libraries", rows["worker"][0], 25, "MB", at_most=True),
    ]
    return report


def memory(server: Server) -> dict[str, tuple[float, float]]:
    """Return resident and proportional MB, summed over the processes of each role."""
    assert server.process is not None
    processes = {server.process.pid: "clary-supervisor", **server.processes()}
    table: dict[str, tuple[float, float]] = {}
    for pid, command in processes.items():
        role = next((role for role in ROLES if f"clary-{role}" in command), "other")
        resident, proportional = table.get(role, (0.0, 0.0))
        table[role] = (resident + resident_mb(pid), proportional + proportional_mb(pid))
    return table


def _first_answer(directory: Path) -> float:
    """Return the seconds from starting the command to an answer from control."""
    server = Server(directory)

    def answers() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            headers = {
                "x-amz-target": "SageMaker.ListEndpoints",
                "content-type": "application/x-amz-json-1.1",
            }
            connection.request("POST", "/", b"{}", headers)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    began = time.perf_counter()
    with server:
        wait_for(answers, timeout_s=20, what="the first answer", poll_s=0.005)
        return time.perf_counter() - began
