"""The control API over TCP, with a stand-in for control that makes what is wanted true.

The tests of this folder see nothing but ``endpoint_url`` and boto3, so that the same tests can be
run against a whole server.
"""

import asyncio
import dataclasses
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config

from builders import NAMESPACE
from clary.api.app import build_api
from clary.api.operations import Backend
from clary.clock import SystemClock
from clary.resources.endpoint import EndpointEvent, EndpointStatus
from clary.resources.quotas import Quotas
from clary.store import Store

SLOW = "slow"
"""An endpoint with this in its name stays as it is until it is asked for again."""


class StandInControl:
    """Makes endpoints ready, and removes deleted ones, as soon as it hears of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        feed = self._store.changes.subscribe()
        while True:
            kind, name = await feed.get()
            if kind == "endpoint" and SLOW not in name:
                await self.reconcile(name)

    async def reconcile(self, name: str) -> None:
        endpoint = await self._store.endpoints.find(name)
        if endpoint is None:
            return
        if endpoint.status is EndpointStatus.DELETING:
            await self._store.endpoints.remove(name)
        elif endpoint.status is EndpointStatus.CREATING and "fails" in name:
            await self._store.endpoints.record_event(
                name, endpoint.generation, EndpointEvent.GAVE_UP, failure_reason="x" * 2000
            )
        elif endpoint.status is EndpointStatus.CREATING:
            there = [
                dataclasses.replace(v, current_count=v.desired_count) for v in endpoint.variants
            ]
            await self._store.endpoints.record_variants(name, endpoint.generation, there)
            await self._store.endpoints.record_event(name, endpoint.generation, EndpointEvent.READY)


async def _no_instances(_name: str) -> list[Mapping[str, Any]]:
    return []


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a control API on loopback."""
    directory: Path = tmp_path_factory.mktemp("api")
    store = Store.open(directory / "state.sqlite", NAMESPACE, SystemClock())
    backend = Backend(
        store=store,
        namespace=NAMESPACE,
        quotas=Quotas(total=1000, by_type={"ml.p4d.24xlarge": 2}),
        clock=SystemClock(),
        find_key=lambda _id: None,
    )
    app = build_api(backend, log_root=directory / "logs", observe_instances=_no_instances)
    server = uvicorn.Server(
        uvicorn.Config(app, loop="asyncio", lifespan="off", ws="none", log_level="warning")
    )
    listener = socket.create_server(("127.0.0.1", 0))

    async def serve() -> None:
        control = asyncio.create_task(StandInControl(store).run())
        await server.serve(sockets=[listener])
        control.cancel()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    listener.close()
    store.close()


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
def container() -> dict[str, Any]:
    """A container that the server can run."""
    return {"Image": "clary/python:latest", "ModelDataUrl": "s3://bucket/model.tar.gz"}


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
def wait(sagemaker: Any) -> Callable[[str, str], None]:
    """Return a function that runs one of boto3's waiters without its pauses of 30 s."""

    def run(waiter: str, endpoint: str) -> None:
        sagemaker.get_waiter(waiter).wait(
            EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
        )

    return run
