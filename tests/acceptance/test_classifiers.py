"""Classifiers that scikit-learn trains in a second, over variants and on a multi-model endpoint.

(Over batches: `test_batching.py`; in a pipeline: `test_pipelines.py`.)
"""

import io
import json
from collections import Counter
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from multi_models import MultiModelEndpoint
from server import ROLE, Server

LOADER = """
import os
import joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""
"""All that is special: the defaults decode, predict and encode."""

IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
MANY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/classifiers:1"


def saved(model: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an image that brings the code of all models."""
    directory: Path = tmp_path_factory.mktemp("classifiers")
    (directory / "image").mkdir()
    (directory / "image" / "inference.py").write_text(LOADER)
    (directory / "clary.toml").write_text(f'[[runners]]\nmatch = "{MANY}"\ncode = "image"\n')
    with Server(directory, CLARY_CONFIG="clary.toml", CLARY_FLEET_MAX_WORKERS="1") as running:
        yield running


def csv(rows: np.ndarray) -> str:
    return "\n".join(",".join(map(repr, row)) for row in rows.tolist())


def test_two_diagnoses_share_the_calls_by_weight(server: Server) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    models = {
        "ModelV1": make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels),
        "ModelV2": DecisionTreeClassifier(max_depth=2, random_state=0).fit(features, labels),
    }
    for name, model in models.items():
        files = {"model.joblib": saved(model), "code/inference.py": LOADER}
        server.sagemaker.create_model(
            ModelName=f"diagnosis-{name}",
            PrimaryContainer={"Image": IMAGE, "ModelDataUrl": server.upload(files, name)},
            ExecutionRoleArn=ROLE,
        )
    for config, weights in (
        ("first-config", {"ModelV1": 1}),
        ("ab-test-config", {"ModelV1": 90, "ModelV2": 10}),
    ):
        server.sagemaker.create_endpoint_config(
            EndpointConfigName=config,
            ProductionVariants=[
                {
                    "VariantName": name,
                    "ModelName": f"diagnosis-{name}",
                    "InitialVariantWeight": weight,
                    "InstanceType": "ml.m5.xlarge",
                    "InitialInstanceCount": 1,
                }
                for name, weight in weights.items()
            ],
        )
    server.sagemaker.create_endpoint(EndpointName="diagnosis", EndpointConfigName="first-config")
    server.wait_for_status("diagnosis", "InService")
    server.sagemaker.update_endpoint(EndpointName="diagnosis", EndpointConfigName="ab-test-config")
    server.wait_for_status("diagnosis", "InService")

    expected = {name: model.predict(features).tolist() for name, model in models.items()}
    assert expected["ModelV1"] != expected["ModelV2"]
    for name in models:
        answer = server.invoke(
            "diagnosis", csv(features), "text/csv", Accept="text/csv", TargetVariant=name
        )
        assert [int(float(line)) for line in answer.split()] == expected[name]

    calls, seen = 1000, Counter()  # type: ignore[var-annotated]
    for n in range(calls):
        row = n % len(features)
        reply = server.runtime.invoke_endpoint(
            EndpointName="diagnosis",
            Body=json.dumps([features[row].tolist()]),
            ContentType="application/json",
        )
        variant = reply["InvokedProductionVariant"]
        assert json.load(reply["Body"]) == [expected[variant][row]]
        seen[variant] += 1
    # 3.29 deviations: 99.9 % of all runs.
    assert abs(seen["ModelV1"] - 0.9 * calls) <= 3.29 * sqrt(calls * 0.9 * 0.1)
    assert seen["ModelV1"] + seen["ModelV2"] == calls


def test_three_classifiers_live_on_one_endpoint(server: Server) -> None:
    data = {
        "digits": load_digits(return_X_y=True),
        "iris": load_iris(return_X_y=True),
        "breast-cancer": load_breast_cancer(return_X_y=True),
    }
    models = {
        name: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(*rows)
        for name, rows in data.items()
    }
    endpoint = MultiModelEndpoint(server, "classifiers").create(image=MANY)
    for name, model in models.items():
        endpoint.put(f"{name}.tar.gz", {"model.joblib": saved(model)})
    for _ in range(2):
        for name, model in models.items():
            features = data[name][0][:50]
            answer = endpoint.invoke(f"{name}.tar.gz", json.dumps(features.tolist()))
            assert answer == model.predict(features).tolist()
    rows = endpoint.models()
    assert {name: row["loads"] for name, row in rows.items()} == {f"{n}.tar.gz": 1 for n in models}
    assert all(row["memory_mib"] > 1 for row in rows.values())
