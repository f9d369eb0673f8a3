"""boto3 against a whole server, started once for the session.

The tests see nothing but ``endpoint_url`` and boto3.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from handlers import ECHO
from server import Server


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server on loopback."""
    with Server(
        tmp_path_factory.mktemp("server"),
        CLARY_FLEET_INSTANCE_TYPE_QUOTAS='{"ml.p4d.24xlarge": 2}',
        CLARY_FLEET_MAX_WORKERS="1",
    ) as server:
        yield server.url


@pytest.fixture(scope="session")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function from a handler's code to the URL of a model that has it."""
    urls: dict[str, str] = {}

    def make(handler: str) -> str:
        if handler not in urls:
            directory: Path = tmp_path_factory.mktemp("model") / "code"
            directory.mkdir()
            (directory / "inference.py").write_text(handler)
            urls[handler] = f"file://{directory.parent}"
        return urls[handler]

    return make


@pytest.fixture(scope="session")
def make_client(endpoint_url: str) -> Callable[[str], Any]:
    """Return a function from service names to boto3 clients."""

    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="AKIAEXAMPLE",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    return make


@pytest.fixture(scope="session")
def sagemaker(make_client: Callable[[str], Any]) -> Any:
    """A SageMaker client that lets bad parameters through to the server."""
    return make_client("sagemaker")


_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"Test-{next(_numbers)}"


@pytest.fixture
def container(model_url: Callable[[str], str]) -> dict[str, Any]:
    """A container that the server can run."""
    return {"Image": "clary/python:latest", "ModelDataUrl": model_url(ECHO)}


@pytest.fixture
def variant(sagemaker: Any, name: str, container: dict[str, Any]) -> dict[str, Any]:
    """A production variant whose model exists."""
    sagemaker.create_model(ModelName=name, PrimaryContainer=container)
    return {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }


@pytest.fixture
def config(sagemaker: Any, name: str, variant: dict[str, Any]) -> str:
    """The name of an endpoint configuration."""
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    return name


@pytest.fixture
def config_for(
    sagemaker: Any, name: str, variant: dict[str, Any], model_url: Callable[[str], str]
) -> Callable[[str], str]:
    """Return a function that makes a configuration whose model has a handler of its own."""

    def make(handler: str) -> str:
        other = f"{name}-{next(_numbers)}"
        container = {"Image": "clary/python:latest", "ModelDataUrl": model_url(handler)}
        sagemaker.create_model(ModelName=other, PrimaryContainer=container)
        sagemaker.create_endpoint_config(
            EndpointConfigName=other, ProductionVariants=[{**variant, "ModelName": other}]
        )
        return other

    return make


@pytest.fixture
def wait(sagemaker: Any) -> Callable[[str, str], None]:
    """Return a function that runs one of boto3's waiters without its pauses of 30 s."""

    def run(waiter: str, endpoint: str) -> None:
        sagemaker.get_waiter(waiter).wait(
            EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
        )

    return run
