"""Inference pipelines as people deploy them: several containers on each instance of an endpoint."""

import json
import os
import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from load import Load
from server import IMAGE, ROLE, Server, wait_for

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/flowers"

PREPARE = """
import json
import numpy as np

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

def model_fn(model_dir):
    print("prepare is loaded")
    return None

def input_fn(body, content_type):
    if content_type != "application/json":
        raise ValueError(f"wants JSON, not {content_type}")
    return json.loads(body)

def predict_fn(flowers, model):
    return np.array([[flower[name] for name in COLUMNS] for flower in flowers])

def output_fn(rows, accept):
    return "\\n".join(",".join(map(repr, map(float, row))) for row in rows), "text/csv"
"""

CLASSIFY = """
import json, os, pickle
import numpy as np

def model_fn(model_dir):
    print("classify is loaded")
    with open(os.path.join(model_dir, "model.pickle"), "rb") as file:
        return pickle.load(file)

def input_fn(body, content_type):
    assert content_type == "text/csv", content_type
    return np.loadtxt(body.decode().splitlines() if isinstance(body, bytes) else body.splitlines(),
                      delimiter=",", ndmin=2)

def predict_fn(rows, model):
    return model.predict_proba(rows)

def output_fn(probabilities, accept):
    return json.dumps(probabilities.tolist()), "application/json"
"""

NAME_SERVER = '''
"""A server of the user's own: standard library only, on the port that it is told."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("setosa", "versicolor", "virginica")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"", "text/plain")

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        named = [NAMES[max(range(3), key=row.__getitem__)] for row in rows]
        body = json.dumps({"flowers": named, "accept": self.headers.get("Accept")})
        self.answer(200, body.encode(), "application/json")

    def answer(self, status, body, content_type):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        print("name-server saw", self.path, flush=True)


ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler
).serve_forever()
'''

ADD = """
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return data + 1
"""

SPLIT = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return __import__("json").loads(body)

def predict_fn(text, model):
    return text.split()

def output_fn(words, accept):
    return __import__("json").dumps(words), "application/json"
"""

HANDLER = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return RESULT, content_type
"""

FLOWERS = [
    dict(zip(("sepal_length", "sepal_width", "petal_length", "petal_width"), row, strict=True))
    for row in ([5.1, 3.5, 1.4, 0.2], [6.3, 2.5, 5.0, 1.9])
]


def classifier() -> bytes:
    model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    return pickle.dumps(model)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose images `preprocessor` and `postprocessor` bring their code themselves."""
    directory = tmp_path_factory.mktemp("pipelines")
    for name, file, text in (
        ("preprocessor", "inference.py", PREPARE),
        ("postprocessor", "server.py", NAME_SERVER),
    ):
        (directory / name).mkdir()
        (directory / name / file).write_text(text)
    (directory / "data").mkdir()
    (directory / "data/clary.toml").write_text(
        f"""
[[runners]]
match = "{REGISTRY}:preprocessor-*"
code = "{directory}/preprocessor"

[[runners]]
match = "{REGISTRY}:model-*"

[[runners]]
match = "{REGISTRY}:postprocessor-*"
runner = "command"
command = ["python", "server.py"]
code = "{directory}/postprocessor"

[router]
max_step_body_bytes = 1048576
"""
    )
    with Server(directory) as running:
        yield running


def create_pipeline(
    server: Server, name: str, containers: list[dict[str, Any]], **model: Any
) -> None:
    server.sagemaker.create_model(
        ModelName=name, Containers=containers, ExecutionRoleArn=ROLE, **model
    )
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)


def handlers(server: Server, name: str, sources: Mapping[str, str]) -> list[dict[str, Any]]:
    """Containers with a hostname and a handler each."""
    return [
        {
            "Image": IMAGE,
            "ContainerHostname": hostname,
            "ModelDataUrl": server.upload({"code/inference.py": source}, f"{name}/{hostname}"),
            "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
        }
        for hostname, source in sources.items()
    ]


@pytest.fixture(scope="module")
def flowers(server: Server) -> str:
    """Preprocess, classify, postprocess: only the classifier has model data."""
    url = server.upload(
        {"model.pickle": classifier(), "code/inference.py": CLASSIFY}, "flowers/classifier"
    )
    create_pipeline(
        server,
        "flowers",
        [
            {"Image": f"{REGISTRY}:preprocessor-v1", "ContainerHostname": "preprocessor"},
            {
                "Image": f"{REGISTRY}:model-v1",
                "ModelDataUrl": url,
                "ContainerHostname": "model",
            },
            {"Image": f"{REGISTRY}:postprocessor-v1", "ContainerHostname": "postprocessor"},
        ],
    )
    server.wait_for_status("flowers", "InService")
    return "flowers"


def refused(server: Server, name: str, body: bytes, **more: Any) -> dict[str, Any]:
    """Return the response of an invocation that is answered with an error."""
    with pytest.raises(ClientError) as caught:
        server.invoke(name, body, **more)
    return dict(caught.value.response)


def test_preprocess_classify_postprocess(server: Server, flowers: str) -> None:
    reply = server.runtime.invoke_endpoint(
        EndpointName=flowers,
        Body=json.dumps(FLOWERS),
        ContentType="application/json",
        Accept="application/json",
    )
    assert reply["ContentType"] == "application/json"
    assert json.load(reply["Body"]) == {
        "flowers": ["setosa", "virginica"],
        "accept": "application/json",
    }


def test_descriptions_show_every_container(server: Server, flowers: str) -> None:
    described = server.sagemaker.describe_endpoint(EndpointName=flowers)
    (variant,) = described["ProductionVariants"]
    images = [image["SpecifiedImage"] for image in variant["DeployedImages"]]
    assert images == [
        f"{REGISTRY}:{step}-v1" for step in ("preprocessor", "model", "postprocessor")
    ]
    model = server.sagemaker.describe_model(ModelName=flowers)
    assert [c["ContainerHostname"] for c in model["Containers"]] == [
        "preprocessor",
        "model",
        "postprocessor",
    ]
    assert "PrimaryContainer" not in model


def test_logs_say_which_container_wrote_a_line(server: Server, flowers: str) -> None:
    server.invoke(flowers, json.dumps(FLOWERS))
    lines = server.cli("logs", flowers).stdout.splitlines()
    for container, text in (
        ("preprocessor", "prepare is loaded"),
        ("model", "classify is loaded"),
        ("postprocessor", "name-server saw /invocations"),
    ):
        (line,) = {line for line in lines if line.endswith(text)}
        assert line.split()[0].endswith(f"/{container}"), line


def test_an_error_of_a_step_names_it(server: Server, flowers: str) -> None:
    response = refused(server, flowers, b"1,2,3", content_type="text/csv")
    assert response["Error"]["Code"] == "ModelError"
    assert "from preprocessor with message" in response["Error"]["Message"]
    assert "wants JSON" in response["OriginalMessage"]
    assert response["OriginalStatusCode"] >= 400


def test_a_body_between_steps_has_a_limit(server: Server) -> None:
    grow = HANDLER.replace("RESULT", "'x' * int(data)")
    steps = {"grow": grow, "count": HANDLER.replace("RESULT", "str(len(data))")}
    create_pipeline(server, "growing", handlers(server, "growing", steps))
    server.wait_for_status("growing", "InService")
    assert server.invoke("growing", b"1048576", "text/plain") == b"1048576"
    response = refused(server, "growing", b"1048577", content_type="text/plain")
    assert response["Error"]["Code"] == "ModelError"
    assert (
        "from grow to count is 1048577 bytes, which has exceeded the maximum limit of 1 MB."
        in response["Error"]["Message"]
    )
    server.delete_endpoint("growing")


def test_the_last_container_streams_its_answer(server: Server) -> None:
    speak = NAME_SERVER.replace(
        "        named = ", "        return self.stream(rows)\n        named = "
    ).replace(
        "    def answer(",
        """    def stream(self, words):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in [*words, ""]:
            self.wfile.write(f"{len(word):x}\\r\\n{word}\\r\\n".encode())

    def answer(""",
    )
    steps = handlers(server, "speaking", {"split": SPLIT})
    steps.append(
        {
            "Image": "clary/server:latest",
            "ContainerHostname": "speak",
            "ModelDataUrl": server.upload({"code/server.py": speak}, "speaking/speak"),
            "Environment": {"CLARY_COMMAND": "python server.py"},
        }
    )
    create_pipeline(server, "speaking", steps)
    server.wait_for_status("speaking", "InService")
    reply = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName="speaking", Body=b'"one two three"', ContentType="application/json"
    )
    parts = [event["PayloadPart"]["Bytes"] for event in reply["Body"]]
    assert b"".join(parts) == b"onetwothree"
    assert reply["ContentType"] == "text/plain"
    server.delete_endpoint("speaking")


def test_direct_mode_asks_the_container_that_is_named(server: Server) -> None:
    sources = {"one": ADD, "ten": ADD.replace("+ 1", "+ 10")}
    create_pipeline(
        server,
        "direct",
        handlers(server, "direct", sources),
        InferenceExecutionConfig={"Mode": "Direct"},
    )
    server.wait_for_status("direct", "InService")
    for hostname, expected in (("one", [2, 3]), ("ten", [11, 12])):
        body = server.invoke("direct", b"[1, 2]", TargetContainerHostname=hostname)
        assert json.loads(body) == expected
    for more in ({}, {"TargetContainerHostname": "eleven"}):
        response = refused(server, "direct", b"[1]", **more)
        assert response["Error"]["Code"] == "ValidationError"
        assert "Its containers are one, ten." in response["Error"]["Message"]
    server.delete_endpoint("direct")


def test_a_serial_pipeline_takes_no_target(server: Server, flowers: str) -> None:
    response = refused(server, flowers, b"[]", TargetContainerHostname="model")
    assert response["Error"]["Code"] == "ValidationError"
    assert "Direct mode" in response["Error"]["Message"]


def test_a_killed_worker_in_the_middle_costs_only_what_it_worked_on(server: Server) -> None:
    echo = HANDLER.replace("RESULT", "data")
    sources = {name: echo for name in ("a", "b", "c")}
    create_pipeline(server, "killed", handlers(server, "killed", sources))
    server.wait_for_status("killed", "InService")
    workers = server.pids("clary-worker", "killed/")
    assert len(workers) == 3
    # Container index and worker index end the command line.
    (middle,) = [pid for pid in workers if server.processes()[pid].split()[-2:] == ["1", "0"]]
    with Load(server.port, "killed", threads=4) as load:
        wait_for(lambda: load.good_since(0) > 50, what="the load to run")
        os.kill(middle, signal.SIGKILL)
        moment = time.monotonic()
        wait_for(lambda: load.good_since(moment) >= 100, timeout_s=20, what="good calls")
    assert len(load.failures) <= 1, load.failures
    assert all("from b with message" in failure.error for failure in load.failures)
    server.delete_endpoint("killed")


def test_unnamed_containers_are_counted_and_every_failing_one_is_named(server: Server) -> None:
    urls = [
        server.upload({"code/inference.py": source}, f"failing/{number}")
        for number, source in enumerate((ADD, "import no_such_thing", "1 / 0"), 1)
    ]
    create_pipeline(server, "failing", [{"Image": IMAGE, "ModelDataUrl": url} for url in urls])
    reason = server.wait_for_status("failing", "Failed")["FailureReason"]
    for number in (2, 3):
        sentence = (
            f"The container-{number} container for production variant AllTraffic did not pass"
        )
        assert sentence in reason
    assert "container-1 container" not in reason
    assert "no_such_thing" in reason
    assert "ZeroDivisionError" in reason or "division by zero" in reason
    server.delete_endpoint("failing")


def test_every_container_whose_data_is_missing_is_named(server: Server) -> None:
    containers = [
        {"Image": IMAGE, "ModelDataUrl": f"s3://models/not-there/{number}.tar.gz"}
        for number in (1, 2)
    ]
    create_pipeline(server, "missing", containers)
    reason = server.wait_for_status("missing", "Failed")["FailureReason"]
    for number in (1, 2):
        assert f'container "container-{number}" from URL' in reason
    server.delete_endpoint("missing")


def test_a_deleted_pipeline_leaves_no_file_of_its_instances(server: Server, tmp_path: Path) -> None:
    create_pipeline(server, "gone", handlers(server, "gone", {"a": ADD, "b": ADD}))
    server.wait_for_status("gone", "InService")
    assert json.loads(server.invoke("gone", b"[1]")) == [3]
    before = {path.name for path in (server.data_dir / "instances").iterdir()}
    server.delete_endpoint("gone")
    after = {path.name for path in (server.data_dir / "instances").iterdir()}
    assert len(before - after) == 1


def test_a_pipeline_survives_a_death_of_control(server: Server, flowers: str) -> None:
    (control,) = server.pids("clary-control")
    os.kill(control, signal.SIGKILL)
    wait_for(lambda: server.pids("clary-control") not in ([], [control]), what="a new control")
    server.wait_for_status(flowers, "InService")
    assert json.loads(server.invoke(flowers, json.dumps(FLOWERS)))["flowers"][0] == "setosa"
