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
FILES = 4
COLUMNS = 8
SINGLE_CALLS = 500

HANDLER = """
import io
import pickle
from pathlib import Path

import numpy as np

def model_fn(model_dir):
    return pickle.loads((Path(model_dir) / "model.pkl").read_bytes())

def input_fn(data, content_type):
    return np.loadtxt(io.StringIO(data), delimiter=",", ndmin=2)

def predict_fn(rows, model):
    return model.predict(rows)

def output_fn(labels, accept):
    return "\\n".join(map(str, labels.tolist())), accept
"""

# Its clock starts when all is imported and loaded, as that of the job when instances are healthy.
BARE = """
import pickle, sys, time
import numpy as np
model = pickle.load(open(sys.argv[1], "rb"))
model.predict(np.zeros((1, model.n_features_in_)))
print(time.monotonic(), flush=True)
sys.stdin.readline()
began = time.monotonic()
for path in sys.argv[2:]:
    labels = model.predict(np.loadtxt(path, delimiter=",", ndmin=2))
    open(path + ".out", "w").write("\\n".join(map(str, labels.tolist())))
print(began, time.monotonic())
"""


def run(bench: Bench) -> Report:
    count = QUICK_ROWS if bench.plan.is_quick else ROWS
    report = Report(f"Batch transform of {count:,} CSV rows, scikit-learn, 2 instances")
    model, files = make(bench.directory, count)
    with contenders.clary(bench.directory / "clary") as server:
        prepare(server, model, files)
        before = memory_kib(server)
        rates, alone = [], []
        for number in range(1 if bench.plan.is_quick else 3):
            rates.append(count / transform(server, f"job-{number}"))
            alone.append(count / bare(bench.directory, model, files))
            compare(server, f"job-{number}", files)
        grown = memory_kib(server) - before
        single = one_by_one(server, files[0])
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
        ValueRow("control's memory, grown by", grown / 1024, "MiB"),
    ]
    report.checks += [
        Check("transform, of one row a call", tuple(r / single for r in rates), 5, "x"),
        Check(
            "transform, of model.predict in 2 bare processes",
            tuple(r / a for r, a in zip(rates, alone, strict=True)),
            0.7,
            "x",
        ),
        Check("transform, growth of control", (grown / 1024,), 32, "MiB", at_most=True),
    ]
    return report


def make(directory: Path, count: int) -> tuple[Path, list[Path]]:
    """Write a model and files of rows."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, COLUMNS))
    model = directory / "model.pkl"
    model.write_bytes(pickle.dumps(LogisticRegression().fit(rows, (rows[:, 0] > 0).astype(int))))
    files = []
    for number in range(FILES):
        files.append(directory / f"{number}.csv")
        np.savetxt(files[-1], random.normal(size=(count // FILES, COLUMNS)), "%.6f", ",")
    return model, files


def prepare(server: Server, model: Path, files: list[Path]) -> None:
    archive = {"code/inference.py": HANDLER, "model.pkl": model.read_bytes()}
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "OMP_NUM_THREADS": "1"}
    server.deploy("single", archive, environment=environment)
    server.sagemaker.create_model(
        ModelName="rows",
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload(archive, "rows"),
            "Environment": environment,
        },
        ExecutionRoleArn=ROLE,
    )
    server.s3.create_bucket(Bucket="rows")
    for file in files:
        server.s3.upload_file(str(file), "rows", f"in/{file.name}")


def transform(server: Server, name: str) -> float:
    """Run a job; return how long it took since data could move, in seconds."""
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://rows/in/"}
    server.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="rows",
        TransformInput={
            "DataSource": {"S3DataSource": source},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://rows/{name}", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
        MaxConcurrentTransforms=2,
    )
    job: dict[str, Any] = {}

    def over() -> bool:
        job.update(server.sagemaker.describe_transform_job(TransformJobName=name))
        return bool(job["TransformJobStatus"] != "InProgress")

    wait_for(over, timeout_s=600, what="the job to end")
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
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for half in halves
    ]
    for process in processes:  # both are ready before either begins
        assert process.stdout is not None
        process.stdout.readline()
    spans = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        told, _ = process.communicate()
        assert process.returncode == 0
        spans.append([float(moment) for moment in told.split()])
    return max(end for _, end in spans) - min(began for began, _ in spans)


def compare(server: Server, name: str, files: list[Path]) -> None:
    """Assert that a job wrote what the bare processes did."""
    for file in files:
        body = server.s3.get_object(Bucket="rows", Key=f"{name}/{file.name}.out")["Body"].read()
        assert body.decode().split() == Path(f"{file}.out").read_text().split(), file.name


def one_by_one(server: Server, file: Path) -> float:
    """Return how many rows a second one client gets through, one a call."""
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
