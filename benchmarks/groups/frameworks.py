"""LitServe, BentoML, MLServer and TorchServe with the same functions, one worker each."""

import contextlib
import json
from pathlib import Path

from benchmarks import contenders, frameworks
from benchmarks.groups.sklearn import train
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, ratios

CLARY = "Clary"
CONNECTIONS = 64
ROW = [0.1, 0.2, 0.3, 0.4]
TITLES = {"echo": "echo", "digits": "scikit-learn", "slow": "batches of up to 32"}


def run(bench: Bench) -> Report:
    report = Report("Serving frameworks, 1 worker each")
    installed = [each for each in frameworks.FRAMEWORKS if each.version]
    model_dir = bench.directory / "model"
    rows = {"echo": [], "digits": [train(model_dir)], "slow": [ROW]}
    bodies = {
        "echo": frameworks.request_body(CLARY, "echo", []),
        "digits": json.dumps({"instances": rows["digits"]}).encode(),
        "slow": json.dumps(rows["slow"]).encode(),
    }
    with contenders.clary(bench.directory / "clary") as server:
        for model, title in TITLES.items():
            directory = bench.directory / model
            server.deploy(
                model,
                {**contenders.files_of(model), **_artifact(model, model_dir)},
                environment={
                    **contenders.ONE_WORKER,
                    **({"MODEL_MAX_BATCH_SIZE": "32"} if model == "slow" else {}),
                },
            )
            call = contenders.invocation(server, model, bodies[model], "application/json")
            with contextlib.ExitStack() as stack:
                requests: dict[str, Request] = {f"Clary, {title}": call}
                for each in installed:
                    requests[f"{each.name}, {title}"] = stack.enter_context(
                        frameworks.start(each, model, model_dir, directory / each.name, rows[model])
                    )
                runs = [(name, count) for name in requests for count in _connections(model)]
                report.loads += bench.interleave(requests, *runs)
            _check(report, title, [each.name for each in installed])
    report.notes.append(
        "Each framework is asked in its own protocol, and started as its documentation says. "
        "A batch is gathered for 5 ms at most."
    )
    return report


def _connections(model: str) -> tuple[int, ...]:
    return (CONNECTIONS, 16, 1) if model == "slow" else (CONNECTIONS,)


def _artifact(model: str, model_dir: Path) -> dict[str, bytes]:
    file = model_dir / "model.joblib"
    return {file.name: file.read_bytes()} if model == "digits" else {}


def _check(report: Report, title: str, names: list[str]) -> None:
    clary = report.find(f"Clary, {title}", CONNECTIONS)
    for name in names:
        theirs = report.find(f"{name}, {title}", CONNECTIONS)
        p99 = tuple(
            mine.p99_ms / other.p99_ms
            for mine, other in zip(clary.rounds, theirs.rounds, strict=True)
        )
        report.checks += [
            Check(f"{title}, of {name}", ratios(clary, theirs), 1, "x"),
            Check(f"{title}, p99, of {name}", p99, 1, "x", at_most=True),
        ]
