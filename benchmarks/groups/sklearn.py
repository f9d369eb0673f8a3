"""A scikit-learn classifier, one row a call: what is left when there is work to do."""

import contextlib
import json
from pathlib import Path

from benchmarks import contenders
from benchmarks.load import Request
from benchmarks.results import Bench, Check, Report, best, ratios

ONE = "Clary, 1 worker"
TWO = "Clary, 2 workers"
DEFAULT = "Clary, default worker count"
ASYNC = "FastAPI, async def"
DEF = "FastAPI, def"


def run(bench: Bench) -> Report:
    report = Report("scikit-learn classifier, one row")
    directory = bench.directory
    model_dir = directory / "model"
    row = train(model_dir)
    body = json.dumps({"instances": [row]}).encode()
    model = (model_dir / "model.joblib").read_bytes()
    files = {**contenders.files_of("digits"), "model.joblib": model}
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        server = enter(contenders.clary(directory / "clary"))
        server.deploy("one", files, environment=contenders.ONE_WORKER)
        server.deploy("two", files, environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "2"})
        server.deploy("default", files)
        requests = {
            name: contenders.invocation(server, endpoint, body, "application/json")
            for name, endpoint in ((ONE, "one"), (TWO, "two"), (DEFAULT, "default"))
        }
        for name, style in ((ASYNC, "with_async_def"), (DEF, "with_def")):
            url = enter(contenders.fastapi(directory, style, "digits", model_dir))
            requests[name] = Request(url, body)
        report.loads += bench.interleave(requests, *((name, 64) for name in requests))
    one, two, default = report.find(ONE), report.find(TWO), report.find(DEFAULT)
    report.checks += [
        Check("scikit-learn, of FastAPI `async def`", ratios(one, report.find(ASYNC)), 1.7, "x"),
        Check("scikit-learn, of FastAPI `def`", ratios(one, report.find(DEF)), 2.8, "x"),
        Check("scikit-learn, 2 workers, of 1", ratios(two, one), 1.4, "x"),
        Check("scikit-learn, default, of the better", ratios(default, best([one, two])), 0.9, "x"),
    ]
    return report


def train(model_dir: Path) -> list[float]:
    """Write a model; return a row to classify."""
    import joblib
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, classes = load_digits(return_X_y=True)
    model_dir.mkdir(parents=True)
    model = LogisticRegression(max_iter=200).fit(images / 16, classes)
    joblib.dump(model, model_dir / "model.joblib")
    row: list[float] = (images[0] / 16).tolist()
    return row
