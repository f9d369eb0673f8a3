"""A transform job through a real scikit-learn model: the same as the model called directly."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from server import IMAGE, ROLE, Server
from transforms import finish, outputs, put, start

pytestmark = pytest.mark.timeout(1800)

COLUMNS = 8
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


@pytest.fixture(scope="module")
def model() -> Any:
    random = np.random.default_rng(1)
    rows = random.normal(size=(2000, COLUMNS))
    return LogisticRegression().fit(rows, (rows[:, 0] + rows[:, 1] > 0).astype(int))


def text_of(first: int, count: int) -> bytes:
    """Rows of an id and features, the same for the same numbers."""
    rows = np.random.default_rng(first).normal(size=(count, COLUMNS))
    buffer = io.StringIO()
    np.savetxt(buffer, np.column_stack([np.arange(first, first + count), rows]), "%.6f", ",")
    return buffer.getvalue().encode()


def expected_of(model: Any, text: bytes) -> bytes:
    """What join and filter make of the model's own answers: id and label."""
    rows = np.loadtxt(io.BytesIO(text), delimiter=",")
    labels = model.predict(rows[:, 1:])
    ids = [line.split(b",", 1)[0] for line in text.splitlines()]
    return b"".join(b"%b,%d\n" % pair for pair in zip(ids, labels, strict=True))


def deploy(server: Server, model: Any) -> None:
    files = {"code/inference.py": HANDLER, "model.pkl": pickle.dumps(model)}
    server.sagemaker.create_model(
        ModelName="classifier",
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload(files, "classifier"),
            "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "OMP_NUM_THREADS": "1"},
        },
        ExecutionRoleArn=ROLE,
    )


def classify(server: Server, name: str, timeout_s: float) -> None:
    start(
        server,
        name,
        "classifier",
        f"s3://{name}/in/",
        f"s3://{name}/out",
        count=2,
        out={"Accept": "text/csv"},
        MaxConcurrentTransforms=2,
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    finish(server, name, timeout_s=timeout_s)


def test_each_row_is_what_the_model_itself_says(server: Server, model: Any) -> None:
    deploy(server, model)
    texts = {f"in/{n}.csv": text_of(n * 4000, 4000) for n in range(4)}
    put(server, "rows", texts)
    classify(server, "rows", 60)
    assert outputs(server, "rows", "out") == {
        key.replace("in/", "out/") + ".out": expected_of(model, text) for key, text in texts.items()
    }


@pytest.mark.slow
def test_a_gigabyte_is_classified_in_flat_memory(tmp_path: Path, model: Any) -> None:
    block = text_of(0, 100_000)
    count = 1024**3 // len(block)
    peaks = dict.fromkeys(("clary-control", "clary-jobs", "clary-objects"), 0)
    with Server(tmp_path) as server:
        deploy(server, model)
        put(server, "giga", {})
        with Path(tmp_path / "in.csv").open("wb") as file:
            for _ in range(count):
                file.write(block)
        server.s3.upload_file(str(tmp_path / "in.csv"), "giga", "in/big.csv")
        before = {word: rss_kib(server, word) for word in peaks if server.pids(word)}
        classify(server, "giga", 1500)
        for word in peaks:
            peaks[word] = max(rss_kib(server, word, peak=True), 0)
        body = server.s3.get_object(Bucket="giga", Key="out/big.csv.out")["Body"]
        expected = expected_of(model, block)
        for found in pieces(body, len(expected)):
            assert found == expected
            count -= 1
        assert count == 0
        job = server.sagemaker.describe_transform_job(TransformJobName="giga")
        took = job["TransformEndTime"] - job["TransformStartTime"]
        print(f"1 GB took {took}; before {before} KiB; peaks {peaks} KiB")
        assert peaks["clary-control"] < before["clary-control"] + 64 * 1024
        assert peaks["clary-jobs"] < 600 * 1024


def rss_kib(server: Server, word: str, *, peak: bool = False) -> int:
    (pid,) = server.pids(word)
    name = "VmHWM" if peak else "VmRSS"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def pieces(body: Any, count: int) -> Iterator[bytes]:
    while piece := body.read(count):
        yield piece
