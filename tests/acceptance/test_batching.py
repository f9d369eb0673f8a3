"""Dynamic batching with stock boto3: a real classifier, called by many at once."""

import contextlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EventStreamError

from server import Server

joblib = pytest.importorskip("joblib")
datasets = pytest.importorskip("sklearn.datasets")
linear_model = pytest.importorskip("sklearn.linear_model")

CODE = """
import os, joblib

CALLS = os.environ["CALLS"]

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def predict_fn(data, model):
    with open(CALLS, "a") as file:
        print(len(data), file=file)
    return {"class": model.predict(data), "probability": model.predict_proba(data).max(axis=1)}
"""

BATCHED = {"MODEL_MAX_BATCH_SIZE": "16", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("batching")) as running:
        yield running


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    return datasets.load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def classifier(digits: tuple[Any, Any]) -> Any:
    images, classes = digits
    return linear_model.LogisticRegression(max_iter=300).fit(images / 16, classes)


def archive(classifier: Any) -> dict[str, str | bytes]:
    weights = io.BytesIO()
    joblib.dump(classifier, weights)
    return {"code/inference.py": CODE, "model.joblib": weights.getvalue()}


@pytest.fixture
def runtime(server: Server) -> Iterator[Any]:
    """A client for many threads."""
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(max_pool_connections=32, retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_a_classifier_answers_many_as_it_answers_each(
    server: Server, runtime: Any, classifier: Any, digits: tuple[Any, Any], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    environment = {**BATCHED, "CALLS": str(calls)}
    server.deploy("digits", archive(classifier), environment=environment)
    images = digits[0] / 16

    def ask(number: int) -> tuple[int, str, Any]:
        rows = images[number : number + 1 + number % 3]
        kind = number % 5
        if kind == 3:  # a caller whose rows are of the wrong width
            rows = rows[:, :10]
        body = json.dumps(rows.tolist())
        if kind == 4:  # one who sends nonsense
            body = "nonsense"
        accept = "text/csv" if kind == 2 else "application/json"
        try:
            reply = runtime.invoke_endpoint(
                EndpointName="digits", Body=body, ContentType="application/json", Accept=accept
            )
        except runtime.exceptions.ModelError as error:
            return number, "error", error.response["OriginalMessage"]
        return number, reply["ContentType"], reply["Body"].read()

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(600)))

    for number, content_type, body in answers:
        kind = number % 5
        if kind == 3:
            assert content_type == "error"
            assert "features" in body
        elif kind == 4:
            assert content_type == "error"
            assert "JSONDecodeError" in body
        elif kind == 2:
            assert content_type == "text/csv"
        else:
            rows = images[number : number + 1 + number % 3]
            answer = json.loads(body)
            assert answer["class"] == classifier.predict(rows).tolist()
            expected = classifier.predict_proba(rows).max(axis=1)
            assert answer["probability"] == pytest.approx(expected.tolist(), abs=1e-6)

    sizes = [int(line) for line in calls.read_text().split()]
    assert max(sizes) > 3, "nothing was batched"
    instance_log = next(server.data_dir.glob("logs/endpoints/digits/**/*.log")).read_text()
    assert "batching is off" not in instance_log


def test_a_batch_of_a_worker_that_dies_fails_and_all_others_are_answered(
    server: Server, runtime: Any
) -> None:
    code = """
import os, time
def model_fn(model_dir): return None
def predict_fn(data, model):
    time.sleep(0.02)
    if (data == 666).any():
        os.kill(os.getpid(), 9)
    return data
"""
    server.deploy("mortal", {"code/inference.py": code}, environment=BATCHED)

    def ask(number: int) -> bool:
        body = json.dumps([[666 if number == 100 else number]])
        try:
            reply = runtime.invoke_endpoint(
                EndpointName="mortal", Body=body, ContentType="application/json"
            )
        except runtime.exceptions.ModelError:
            return False
        assert json.loads(reply["Body"].read()) == [[number]]
        return True

    with ThreadPoolExecutor(24) as pool:
        answered = list(pool.map(ask, range(200)))
    assert not answered[100]
    assert answered.count(False) <= 16


def test_a_batching_that_makes_no_sense_fails_the_endpoint(server: Server) -> None:
    server.create_endpoint(
        "nonsense",
        {"code/inference.py": "def model_fn(model_dir): return None\n"},
        environment={"SAGEMAKER_TS_BATCH_SIZE": "many"},
    )
    description = server.wait_for_status("nonsense", "Failed")
    assert "SAGEMAKER_TS_BATCH_SIZE is 'many'" in description["FailureReason"]


def test_a_handlers_generator_is_a_response_stream(server: Server) -> None:
    code = """
def model_fn(model_dir): return ["roses", "are", "red"]
def predict_fn(data, model):
    for word in model:
        yield word + " "
    if data == 13:
        raise ValueError("out of words")
"""
    server.deploy("poet", {"code/inference.py": code})

    def ask(body: bytes) -> Any:
        reply = server.runtime.invoke_endpoint_with_response_stream(
            EndpointName="poet", Body=body, ContentType="application/json"
        )
        return contextlib.closing(reply["Body"])

    with ask(b"1") as events:
        parts = [event["PayloadPart"]["Bytes"] for event in events]
    assert b"".join(parts) == b"roses are red "
    assert server.invoke("poet", b"1") == b"roses are red "
    with ask(b"13") as events, pytest.raises(EventStreamError, match="ModelStreamError"):
        list(events)
