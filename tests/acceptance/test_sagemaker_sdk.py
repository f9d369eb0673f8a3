"""The SageMaker Python SDK (v2) itself against a running server.

It needs an environment of its own (its dependencies are many, and its versions 2 and 3 exclude each
other), so the interpreter of one is taken from ``CLARY_SAGEMAKER_SDK_PYTHON``:

    uv venv DIR && uv pip install --python DIR/bin/python 'sagemaker<3'
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from handlers import ECHO

PYTHON = os.environ.get("CLARY_SAGEMAKER_SDK_PYTHON", "")
PROGRAM = Path(__file__).parents[1] / "sdk_v2.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON, reason="needs CLARY_SAGEMAKER_SDK_PYTHON: a Python with sagemaker<3 installed"
    ),
]

MULTIPLIES = """
import os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "factor.txt")) as file:
        return int(file.read())

def predict_fn(data, factor):
    return data * factor
"""

CREATED = ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]


@pytest.fixture(scope="module")
def steps(server, tmp_path_factory):
    """What each step of the program returned, and the calls that it made."""
    whole = server.upload({"code/inference.py": ECHO}, "whole")
    bare = server.upload({"factor.txt": "3"}, "bare")
    directory = tmp_path_factory.mktemp("sdk")
    entry_point, report = directory / "serve.py", directory / "report.json"
    entry_point.write_text(MULTIPLIES)
    done = subprocess.run(
        [PYTHON, "-W", "ignore", str(PROGRAM), whole, bare, str(entry_point), str(report)],
        env={**server.environ(), "SAGEMAKER_SUPPRESS_V2_WARNING": "1", "HOME": str(directory)},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(report.read_text())


def test_a_model_is_deployed_and_predicts(steps):
    calls = steps["deploy"]["calls"]
    assert calls[:3] == CREATED
    assert set(calls[3:]) == {"DescribeEndpoint"}
    assert steps["predict"] == {"result": {"a": [1, 2]}, "calls": ["InvokeEndpoint"]}


def test_a_model_that_exists_already_is_used(steps):
    assert steps["create the same model"]["result"] == "sdk-plain"


def test_an_endpoint_is_deleted_after_its_configuration(steps):
    assert steps["delete_endpoint"]["calls"] == [
        "DescribeEndpoint",
        "DeleteEndpointConfig",
        "DeleteEndpoint",
    ]
    assert steps["delete_model"]["calls"] == ["DeleteModel"]


def test_the_default_bucket_is_made_for_the_code_of_a_model(steps):
    calls = steps["sklearn deploy"]["calls"]
    assert calls[:7] == ["ListBuckets", "HeadBucket", "CreateBucket", "PutObject", *CREATED]


def test_code_is_taken_from_s3_or_from_the_repacked_archive(steps):
    sklearn = steps["sklearn environment"]["result"]
    assert sklearn["SAGEMAKER_SUBMIT_DIRECTORY"].startswith("s3://sdk-default/")
    pytorch = steps["pytorch environment"]["result"]
    assert pytorch["SAGEMAKER_SUBMIT_DIRECTORY"] == "/opt/ml/model/code"


@pytest.mark.parametrize("kind", ["sklearn", "pytorch"])
def test_a_framework_model_predicts_on_arrays(steps, kind):
    assert steps[f"{kind} predict"]["result"] == [[3, 6], [9, 12]]


def test_the_sessions_own_s3_helpers_work(steps):
    assert steps["upload_data"]["result"] == "s3://sdk-default/up/serve.py"
    assert steps["list_s3_files"]["result"] == ["up/serve.py"]
    assert steps["read_s3_file"]["result"] == MULTIPLIES


def test_two_models_are_deployed_as_inference_components(steps):
    assert steps["sdk-first predict"]["result"] == {"a": [1, 2]}
    assert steps["sdk-second predict"]["result"] == {"a": [1, 2]}
    first, second = (steps[f"sdk-{name} deploy"]["calls"] for name in ("first", "second"))
    assert "CreateEndpointConfig" in first
    assert "CreateEndpointConfig" not in second
    for calls in (first, second):
        assert [c for c in calls if c.startswith("Create")][-1] == "CreateInferenceComponent"
        assert calls[-1] == "DescribeInferenceComponent"
    assert set(steps["list components"]["result"]) == {"sdk-first-ic", "sdk-second-ic"}
    assert steps["delete endpoint of components"]["calls"] == ["DeleteEndpoint"]
