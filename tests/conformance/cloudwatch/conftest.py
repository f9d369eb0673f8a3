"""CloudWatch clients of all protocols against a whole server, started once for the session."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.session import get_session

from server import Server

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def make_cloudwatch(running: Server) -> Callable[[str], Any]:
    """Return a function from the name of a protocol to a client that speaks it."""

    def make(protocol: str) -> Any:
        session = get_session()
        loader = session.get_component("data_loader")
        model = loader.load_service_model("cloudwatch", "service-2")
        model["metadata"]["protocols"] = [protocol]
        model["metadata"]["protocol"] = protocol
        return boto3.Session(botocore_session=session).client(
            "cloudwatch",
            endpoint_url=running.url,
            region_name="us-east-1",
            aws_access_key_id="clary",
            aws_secret_access_key="clary",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=False),
        )

    return make


@pytest.fixture(scope="session")
def cloudwatch(make_cloudwatch: Callable[[str], Any]) -> Any:
    """A client as boto3 makes it by itself: it chooses CBOR."""
    return make_cloudwatch("smithy-rpc-v2-cbor")


@pytest.fixture(scope="session", params=PROTOCOLS)
def any_cloudwatch(request: pytest.FixtureRequest, make_cloudwatch: Callable[[str], Any]) -> Any:
    return make_cloudwatch(request.param)
