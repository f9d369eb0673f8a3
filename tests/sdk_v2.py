"""Deploys three kinds of models with the SageMaker Python SDK (v2) and writes what came of it.

A program of its own, for ``test_sagemaker_sdk.py`` runs it with an interpreter that has the SDK.
It writes one JSON object: for each step its result and the AWS calls that it made.
"""

import json
import sys
import time
from pathlib import Path

import boto3
import numpy as np
import sagemaker
from sagemaker.compute_resource_requirements.resource_requirements import ResourceRequirements
from sagemaker.deserializers import JSONDeserializer
from sagemaker.enums import EndpointType
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.pytorch import PyTorchModel
from sagemaker.serializers import JSONSerializer
from sagemaker.sklearn import SKLearnModel

ROLE = "arn:aws:iam::123456789012:role/tests"

_sleep = time.sleep
time.sleep = lambda seconds: _sleep(min(seconds, 0.05))  # the SDK polls every 30 s

calls = []
steps = {}


def step(name, call):
    calls.clear()
    result = call()
    is_plain = isinstance(result, str | int | dict | list | None)
    steps[name] = {"result": result if is_plain else repr(result), "calls": list(calls)}
    return result


def components(whole, common):
    """Deploy two models as inference components of one endpoint."""
    resources = ResourceRequirements(requests={"num_cpus": 1, "memory": 512, "copies": 1})
    predictors = []
    for name in ("sdk-first", "sdk-second"):
        model = Model(
            image_uri="clary/python:latest",
            model_data=whole,
            name=name,
            predictor_cls=Predictor,
            **common,
        )
        predictor = step(
            f"{name} deploy",
            lambda model=model, name=name: model.deploy(
                1,
                "ml.m5.large",
                endpoint_name="sdk-components",
                endpoint_type=EndpointType.INFERENCE_COMPONENT_BASED,
                inference_component_name=f"{name}-ic",
                resources=resources,
                serializer=JSONSerializer(),
                deserializer=JSONDeserializer(),
            ),
        )
        predictors.append(predictor)
        step(f"{name} predict", lambda predictor=predictor: predictor.predict({"a": [1, 2]}))
    session = common["sagemaker_session"]
    step(
        "list components",
        lambda: [
            item["InferenceComponentName"]
            for item in session.list_inference_components(endpoint_name_equals="sdk-components")[
                "InferenceComponents"
            ]
        ],
    )
    for predictor in predictors:
        step("delete component", lambda predictor=predictor: predictor.delete_predictor(wait=True))
    step("delete endpoint of components", lambda: session.delete_endpoint("sdk-components"))


def main(whole, bare, entry_point, report):
    """Take the URLs of a model with code and of one without, the latter's code, and a file."""
    aws = boto3.Session()
    aws.events.register("before-call", lambda model, **_: calls.append(model.name))
    session = sagemaker.Session(aws, default_bucket="sdk-default")
    common = {"role": ROLE, "sagemaker_session": session}

    model = Model(
        image_uri="clary/python:latest",
        model_data=whole,
        name="sdk-plain",
        predictor_cls=Predictor,
        **common,
    )
    predictor = step(
        "deploy",
        lambda: model.deploy(
            1, "ml.m5.large", serializer=JSONSerializer(), deserializer=JSONDeserializer()
        ),
    )
    step("predict", lambda: predictor.predict({"a": [1, 2]}))
    container = {"Image": "clary/python:latest", "ModelDataUrl": whole}
    step("create the same model", lambda: session.create_model("sdk-plain", ROLE, container))
    step("delete_endpoint", predictor.delete_endpoint)
    step("delete_model", model.delete_model)

    for name, kind, more in [
        ("sklearn", SKLearnModel, {"framework_version": "1.2-1"}),
        ("pytorch", PyTorchModel, {"framework_version": "2.1", "py_version": "py310"}),
    ]:
        model = kind(model_data=bare, entry_point=entry_point, name=f"sdk-{name}", **more, **common)
        predictor = step(f"{name} deploy", lambda model=model: model.deploy(1, "ml.m5.large"))
        describe = session.sagemaker_client.describe_model
        described = describe(ModelName=f"sdk-{name}")["PrimaryContainer"]
        step(f"{name} environment", lambda described=described: described["Environment"])
        step(
            f"{name} predict",
            lambda predictor=predictor: predictor.predict(np.array([[1, 2], [3, 4]])).tolist(),
        )
        step(f"{name} delete_endpoint", predictor.delete_endpoint)

    components(whole, common)
    step("upload_data", lambda: session.upload_data(entry_point, "sdk-default", "up"))
    step("list_s3_files", lambda: session.list_s3_files("sdk-default", "up"))
    step(
        "read_s3_file", lambda: session.read_s3_file("sdk-default", f"up/{Path(entry_point).name}")
    )
    Path(report).write_text(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
