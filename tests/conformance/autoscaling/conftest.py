"""An endpoint and a client for each module; every test has a variant of its own to register."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from autoscaling_cases import names
from handlers import ECHO
from server import Server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("server"),
        CLARY_FLEET_MAX_WORKERS="1",
        CLARY_FLEET_INSTANCE_TYPE_QUOTAS='{"ml.c5.large": 2}',
    ) as running:
        yield running


@pytest.fixture
def scaling(server: Server) -> Any:
    return server.client("application-autoscaling", parameter_validation=False)


_numbers = itertools.count(1)


@pytest.fixture
def make_endpoint(server: Server) -> Iterator[Callable[..., str]]:
    """Return a function that deploys an endpoint with one variant; they are deleted afterwards."""
    made = []

    def make(count: int = 1, **variant: Any) -> str:
        name = f"scaled-{next(_numbers)}"
        server.deploy(name, {"code/inference.py": ECHO}, InitialInstanceCount=count, **variant)
        made.append(name)
        return name

    yield make
    for name in made:
        try:
            server.wait_for_status(name, "InService", "UpdateRollbackFailed")
            server.delete_endpoint(name)
        except ClientError:
            pass  # the test deleted it


@pytest.fixture
def resource(make_endpoint: Callable[..., str]) -> dict[str, str]:
    """What names the target of an endpoint of its own."""
    return names(make_endpoint())


@pytest.fixture
def target(scaling: Any, resource: dict[str, str]) -> dict[str, str]:
    """A registered target, from 1 to 4."""
    scaling.register_scalable_target(**resource, MinCapacity=1, MaxCapacity=4)
    return resource
