"""Gateways and workers for the tests of this folder."""

import contextlib

import pytest

from gateways import HANDLER, Gateway, WorkerProcess, make_settings


@pytest.fixture
def make_gateway():
    """Start gateways with settings of their own."""
    with contextlib.ExitStack() as stack:

        def make(keys=None, **sections):
            gateway = Gateway(make_settings(**sections), keys=keys)
            stack.callback(gateway.close)
            return gateway

        yield make


@pytest.fixture
def make_worker(tmp_path):
    """Start workers of one's own, to kill."""
    with contextlib.ExitStack() as stack:
        count = iter(range(100))

        def make(code=HANDLER, endpoint="echo"):
            worker = WorkerProcess(tmp_path / f"worker{next(count)}", code, endpoint)
            stack.callback(worker.close)
            return worker

        yield make


@pytest.fixture(scope="module")
def echo_worker(tmp_path_factory):
    worker = WorkerProcess(tmp_path_factory.mktemp("echo"))
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def gateway(echo_worker):
    """One gateway with an endpoint ``echo``, for tests that leave it as it was."""
    gateway = Gateway(make_settings())
    gateway.route("echo", echo_worker.address)
    yield gateway
    gateway.close()
