"""Batch transform of CSV rows through scikit-learn: of one row a call, and of the model alone."""

import io
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.results import Bench, Check, Report, ValueRow
from server import IMAGE, ROLE, Server, wait_for

ROWS = 1_000_000
QUICK_ROWS = 100_000
FOREST_TREES = 50
FILES = 4
COLUMNS = 8
SINGLE_CALLS = 500

HANDLER = """
import io
import pickle
from pathlib import Path

import numpy as np

def model_fn(model_dir):
    model = pickle.loads((Path(model_dir) / "model.pkl").read_bytes())
    model.predict(np.zeros((1, model.n_features_in_)))
    return model

def input_fn(data, content_type):
    return np.loadtxt(io.StringIO(data), delimiter=",", ndmin=2)

def predict_fn(rows, model):
    return model.predict(rows)

def output_fn(labels, accept):
    return "\\n".join(map(str, labels.tolist())), accept
"""

# Its clock starts when the first of the two has loaded all and predicted once, as that of the job
# when the first instance is healthy.
BARE = """
import pickle, sys, time
import numpy as np
model = pickle.load(open(sys.argv[1], "rb"))
model.predict(np.zeros((1, model.n_features_in_)))
began = time.monotonic()
for path in sys.argv[2:]:
    labels = model.predict(np.loadtxt(path, delimiter=",", ndmin=2))
    open(path + ".out", "w").write("\\n".join(map(str, labels.tolist())))
print(began, time.monotonic())
"""


def run(bench: Bench) -> Report:
    count = QUICK_ROWS if bench.plan.is_quick else ROWS
    report = Report(f"Batch transform of {count:,} CSV rows, scikit-learn, 2 instances")
    rounds = 1 if bench.plan.is_quick else 3
    model, files = make(bench.directory / "linear", count, "linear")
    forest, few = make(bench.directory / "forest", count, "forest")
    with contenders.clary(bench.directory / "clary") as server:
        prepare(server, "linear", model, files)
        before = memory_kib(server)
        rates, alone = side_by_side(server, "linear", model, files, rounds)
        grown = memory_kib(server) - before
        single = one_by_one(server, files[0])
        prepare(server, "forest", forest, few)
        forest_rates, forest_alone = side_by_side(server, "forest", forest, few, rounds)
    report.values += [
        ValueRow(
            "rows/s, transform job", max(rates), "rows/s", "from the first healthy instance on"
        ),
        ValueRow(
            "rows/s, model.predict in 2 bare processes",
            max(alone),
            "rows/s",
            "without imports and loading",
        ),
        ValueRow("rows/s, one row a call from boto3", single, "rows/s"),
        ValueRow(
            f"rows/s, a forest of {FOREST_TREES} trees, transform job",
            max(forest_rates),
            "rows/s",
            f"in 2 bare processes {max(forest_alone):,.0f}",
        ),
        ValueRow("control's memory, grown by", grown / 1024, "MiB"),
    ]
    report.checks += [
        Check("transform, of one row a call", tuple(r / single for r in rates), 5, "x"),
        Check(
            "transform, of a linear model in 2 bare processes",
            tuple(r / a for r, a in zip(rates, alone, strict=True)),
            0.7,
            "x",
        ),
        Check(
            "transform, of a forest in 2 bare processes",
            tuple(r / a for r, a in zip(forest_rates, forest_alone, strict=True)),
            0.7,
            "x",
        ),
        Check("transform, growth of control", (grown / 1024,), 32, "MiB", at_most=True),
    ]
    return report


def side_by_side(
    server: Server, kind: str, model: Path, files: list[Path], rounds: int
) -> tuple[list[float], list[float]]:
    """Return rows a second of jobs, and of bare processes, round by round; both must agree."""
    count = sum(file.read_bytes().count(b"\n") for file in files)
    rates, alone = [], []
    for number in range(rounds):
        rates.append(count / transform(server, kind, f"{kind}-{number}"))
        alone.append(count / bare(model.parent, model, files))
        compare(server, kind, f"{kind}-{number}", files)
    return rates, alone


def make(directory: Path, count: int, kind: str) -> tuple[Path, list[Path]]:
    """Write a model and files of rows.

    What a linear model takes is nearly all in reading its rows; a forest computes.
    """
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    directory.mkdir()
    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, COLUMNS))
    chosen = (
        LogisticRegression()
        if kind == "linear"
        else RandomForestClassifier(FOREST_TREES, max_depth=8, random_state=1)
    )
    model = directory / "model.pkl"
    model.write_bytes(pickle.dumps(chosen.fit(rows, (rows[:, 0] > 0).astype(int))))
    files = []
    for number in range(FILES):
        files.append(directory / f"{number}.csv")
        np.savetxt(files[-1], random.normal(size=(count // FILES, COLUMNS)), "%.6f", ",")
    return model, files


def prepare(server: Server, kind: str, model: Path, files: list[Path]) -> None:
    archive = {"code/inference.py": HANDLER, "model.pkl": model.read_bytes()}
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "OMP_NUM_THREADS": "1"}
    server.sagemaker.create_model(
        ModelName=kind,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload(archive, kind),
            "Environment": environment,
        },
        ExecutionRoleArn=ROLE,
    )
    server.s3.create_bucket(Bucket=kind)
    for file in files:
        server.s3.upload_file(str(file), kind, f"in/{file.name}")


def transform(server: Server, kind: str, name: str) -> float:
    """Run a job; return how long it took since data could move, in seconds."""
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{kind}/in/"}
    server.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName=kind,
        TransformInput={
            "DataSource": {"S3DataSource": source},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{kind}/{name}", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
        MaxConcurrentTransforms=2,
        MaxPayloadInMB=1,  # a request and what it becomes stay in the processor's cache
    )
    job: dict[str, Any] = {}

    def over() -> bool:
        job.update(server.sagemaker.describe_transform_job(TransformJobName=name))
        return bool(job["TransformJobStatus"] != "InProgress")

    # Seldom, for what is measured are the server's own times, on the same two cores.
    wait_for(over, timeout_s=600, what="the job to end", poll_s=0.5)
    assert job["TransformJobStatus"] == "Completed", job
    return float((job["TransformEndTime"] - job["TransformStartTime"]).total_seconds())


def bare(directory: Path, model: Path, files: list[Path]) -> float:
    """Call the model in two processes; return how long they took, in seconds."""
    program = directory / "bare.py"
    program.write_text(BARE)
    halves = [files[: FILES // 2], files[FILES // 2 :]]
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), str(model), *map(str, half)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for half in halves
    ]
    spans = []
    for process in processes:
        told, _ = process.communicate()
        assert process.returncode == 0
        spans.append([float(moment) for moment in told.split()])
    return max(end for _, end in spans) - min(began for began, _ in spans)


def compare(server: Server, kind: str, name: str, files: list[Path]) -> None:
    """Assert that a job wrote what the bare processes did."""
    for file in files:
        body = server.s3.get_object(Bucket=kind, Key=f"{name}/{file.name}.out")["Body"].read()
        assert body.decode().split() == Path(f"{file}.out").read_text().split(), file.name


def one_by_one(server: Server, file: Path) -> float:
    """Return how many rows a second one client gets through, one a call."""
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "OMP_NUM_THREADS": "1"}
    url = "s3://models/linear/model.tar.gz"
    server.create_endpoint("single", model_data_url=url, environment=environment)
    server.wait_for_status("single", "InService")
    with io.BytesIO(file.read_bytes()) as rows:
        bodies = [next(rows) for _ in range(SINGLE_CALLS)]
    server.invoke("single", bodies[0], "text/csv")
    began = time.perf_counter()
    for body in bodies:
        server.invoke("single", body, "text/csv")
    return SINGLE_CALLS / (time.perf_counter() - began)


def memory_kib(server: Server) -> int:
    (pid,) = server.pids("clary-control")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
