"""Processes that are started when they are first needed: jobs."""

import http.client
import json
import os
import signal
import socket
import urllib.request

import pytest

from clary.settings import run_dir
from server import Server, wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("jobs")) as server:
        yield server


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


def health_of_jobs(server):
    connection = UnixConnection(run_dir(server.data_dir) / "jobs.sock")
    try:
        connection.request("GET", "/_clary/health")
        reply = connection.getresponse()
        assert reply.status == 200
        return json.loads(reply.read())
    finally:
        connection.close()


def services(server):
    with urllib.request.urlopen(f"{server.url}/_clary/health", timeout=5) as reply:
        return json.loads(reply.read())["services"]


def test_jobs_starts_with_its_first_request_and_lives_on(server):
    assert services(server)["jobs"] == "not started"
    assert server.pids("clary-jobs") == []
    first = health_of_jobs(server)
    assert first["status"] == "ok"
    assert server.pids("clary-jobs") == [first["pid"]]
    assert services(server)["jobs"] == "started"
    os.kill(first["pid"], signal.SIGKILL)
    wait_for(
        lambda: [pid for pid in server.pids("clary-jobs") if pid != first["pid"]],
        what="jobs to be started again",
    )
    assert health_of_jobs(server)["pid"] != first["pid"]


def test_a_restarted_server_waits_again(server):
    health_of_jobs(server)
    server.stop()
    server.start()
    assert services(server)["jobs"] == "not started"
    server.kill()
    server.start()
    assert services(server)["jobs"] == "not started"
