"""Load by wrk: as many requests as the server takes, over a fixed number of connections."""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPORT = """
wrk.method = "POST"
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.body = file:read("*a")
file:close()
for line in io.lines(os.getenv("BENCH_HEADERS")) do
  local name, value = line:match("^([^:]+): (.*)$")
  wrk.headers[name] = value
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "\\nRESULT {\\"requests\\":%d,\\"us\\":%d,\\"p50\\":%f,\\"p99\\":%f,\\"errors\\":%d}\\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One POST that is sent over and over."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def run_wrk(request: Request, *, connections: int, seconds: float) -> Load:
    """Load a server with one thread of wrk, which is enough for all servers here."""
    with tempfile.TemporaryDirectory() as directory:
        files = Path(directory)
        (files / "report.lua").write_text(REPORT)
        (files / "body").write_bytes(request.body)
        lines = [f"{name}: {value}\n" for name, value in request.headers.items()]
        (files / "headers").write_text("".join(lines))
        done = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                "--timeout",
                "10s",
                "-s",
                str(files / "report.lua"),
                request.url,
            ],
            env={
                "BENCH_BODY": str(files / "body"),
                "BENCH_HEADERS": str(files / "headers"),
                "PATH": "/usr/local/bin:/usr/bin:/bin",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 60,
        )
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result = json.loads(line.removeprefix("RESULT "))
            return Load(
                requests_per_s=result["requests"] / result["us"] * 1e6,
                p50_ms=result["p50"] / 1e3,
                p99_ms=result["p99"] / 1e3,
                errors=result["errors"],
            )
    raise RuntimeError(f"wrk said nothing:\n{done.stdout}\n{done.stderr}")


def median(loads: Sequence[Load]) -> Load:
    """Return the median of each number over the rounds; errors add up."""
    return Load(
        requests_per_s=statistics.median(load.requests_per_s for load in loads),
        p50_ms=statistics.median(load.p50_ms for load in loads),
        p99_ms=statistics.median(load.p99_ms for load in loads),
        errors=sum(load.errors for load in loads),
    )


def spread(loads: Sequence[Load]) -> float:
    """Return the distance of best and worst round, as a share of the median of requests/s."""
    rates = [load.requests_per_s for load in loads]
    return (max(rates) - min(rates)) / statistics.median(rates)
