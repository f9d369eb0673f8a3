"""``kill -9`` under load, one process after another: every cell of the table of processes.

"What works while … is dead" in docs/architecture.md; one test for each column. Control API and S3
are asked from the side while the load goes on.
"""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from handlers import ECHO
from load import Load
from server import Server, wait_for

IN_FLIGHT_OF_ONE_WORKER = 8
"""More than the load's threads: no kill may cost more requests than were open."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("kills")) as server:
        server.deploy("echo", {"code/inference.py": ECHO}, InitialInstanceCount=2)
        server.s3.create_bucket(Bucket="kept")
        server.s3.put_object(Bucket="kept", Key="a", Body=b"1")
        yield server


@pytest.fixture
def load(server):
    with Load(server.port, "echo") as load:
        wait_for(lambda: load.good_since(0) > 50, what="the load to run")
        yield load


def kill(server, *words):
    pid = server.pids(*words)[0]
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_good_calls(load, since, count=50, timeout_s=15):
    wait_for(
        lambda: load.good_since(since) >= count, timeout_s=timeout_s, what=f"{count} good calls"
    )


def wait_until_replaced(server, old, *words, timeout_s=20):
    wait_for(
        lambda: [pid for pid in server.pids(*words) if pid != old],
        timeout_s=timeout_s,
        what=f"a new {words[0]}",
    )


def test_killing_a_worker_costs_only_its_requests_in_flight(server, load):
    before = len(server.pids("clary-worker", "echo/"))
    killed = kill(server, "clary-worker", "echo/")
    moment = time.monotonic()
    wait_for_good_calls(load, moment)
    wait_for(
        lambda: (
            killed not in server.pids("clary-worker", "echo/")
            and len(server.pids("clary-worker", "echo/")) == before
        ),
        timeout_s=20,
        what="the worker to be restarted",
    )
    assert len(load.failures) <= IN_FLIGHT_OF_ONE_WORKER
    assert all("ModelError" in o.error or "(0)" in o.error for o in load.failures)
    assert server.wait_for_status("echo", "InService")


def test_killing_control_costs_no_request_and_its_api_comes_back(server, load):
    workers = server.pids("clary-worker", "echo/")
    killed = kill(server, "clary-control")
    # Held, not refused: the API answers once control is back.
    assert server.sagemaker.list_endpoints()["Endpoints"]
    wait_until_replaced(server, killed, "clary-control")
    wait_for_good_calls(load, time.monotonic())
    assert server.wait_for_status("echo", "InService")
    assert load.failures == []
    assert server.pids("clary-worker", "echo/") == workers  # adopted, not restarted


def test_a_restarted_control_goes_on_managing_what_it_adopted(server):
    killed = kill(server, "clary-control")
    wait_until_replaced(server, killed, "clary-control")
    server.deploy("after", {"code/inference.py": ECHO})
    assert server.invoke("after", b"hi") == b"hi"
    victim = kill(server, "clary-worker", "echo/")
    wait_until_replaced(server, victim, "clary-worker", "echo/")
    server.delete_endpoint("after")
    assert server.pids("clary-worker", "after/") == []


def test_killing_the_gateway_costs_its_connections_but_not_the_port(server, load):
    killed = kill(server, "clary-gateway")
    moment = time.monotonic()
    wait_for_good_calls(load, moment, count=1)
    first = min(o.started + o.seconds for o in load.outcomes if o.started > moment and o.status)
    assert first - moment < 5  # about 0.3 s on an idle machine
    wait_for_good_calls(load, moment)
    wait_until_replaced(server, killed, "clary-gateway")
    assert all(o.status == 0 for o in load.failures)
    assert "Connection refused" not in " ".join(o.error for o in load.failures)
    assert server.sagemaker.list_endpoints()["Endpoints"]
    assert server.s3.get_object(Bucket="kept", Key="a")["Body"].read() == b"1"


def test_gateway_and_control_killed_together_serve_from_the_kept_table(server, load):
    """The gateway starts before control is back, from its file."""
    os.kill(server.pids("clary-control")[0], signal.SIGSTOP)
    stopped = server.pids("clary-control")[0]
    try:
        kill(server, "clary-gateway")
        wait_for_good_calls(load, time.monotonic())
    finally:
        os.kill(stopped, signal.SIGKILL)
    wait_until_replaced(server, stopped, "clary-control")
    assert server.wait_for_status("echo", "InService")


def test_killing_objects_holds_s3_and_moves_nothing_else(server, load):
    killed = kill(server, "clary-objects")
    assert server.s3.get_object(Bucket="kept", Key="a")["Body"].read() == b"1"  # held until back
    wait_until_replaced(server, killed, "clary-objects")
    assert server.sagemaker.list_endpoints()["Endpoints"]
    wait_for_good_calls(load, time.monotonic())
    assert load.failures == []


def test_killing_a_host_leaves_its_workers_serving_until_it_is_replaced(server, load):
    killed = kill(server, "clary-host", "echo/")
    wait_for_good_calls(load, time.monotonic(), count=20)
    wait_for(
        lambda: (
            killed not in server.pids("clary-host", "echo/")
            and len(server.pids("clary-host", "echo/")) == 2
        ),
        timeout_s=30,
        what="a new instance",
    )
    wait_for(
        lambda: (
            server.sagemaker.describe_endpoint(EndpointName="echo")["ProductionVariants"][0][
                "CurrentInstanceCount"
            ]
            == 2
        ),
        timeout_s=30,
        what="two healthy instances",
    )
    wait_for_good_calls(load, time.monotonic())
    assert load.failures == []


def test_a_client_that_waits_on_the_socket_is_served_by_the_next_gateway(server):
    """New connections wait in the listening socket, which the supervisor keeps open."""
    pid = server.pids("clary-gateway")[0]
    os.kill(pid, signal.SIGSTOP)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(server.health()))
    waiting.start()
    os.kill(pid, signal.SIGKILL)
    waiting.join(15)
    # 0: this very connection had been taken by the gateway that died.
    assert answers in ([200], [0])
    wait_for(lambda: server.health() == 200, what="health")


def test_when_the_supervisor_is_killed_all_stops_within_seconds(tmp_path):
    with Server(tmp_path) as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server.assert_nothing_is_left()


def test_after_kill_9_of_everything_the_same_endpoints_serve_again(tmp_path):
    with Server(tmp_path) as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        server.deploy("gone", {"code/inference.py": ECHO})
        server.delete_endpoint("gone")
        server.s3.create_bucket(Bucket="kept")
        server.s3.put_object(Bucket="kept", Key="big", Body=b"b" * 3_000_000)
        server.kill()
        server.start()
        # An invocation waits for the first instance of this life.
        assert server.invoke("echo", b"again") == b"again"
        assert server.wait_for_status("echo", "InService")
        names = [e["EndpointName"] for e in server.sagemaker.list_endpoints()["Endpoints"]]
        assert names == ["echo"]
        assert server.s3.get_object(Bucket="kept", Key="big")["Body"].read() == b"b" * 3_000_000
        assert len(server.pids("clary-host")) == 1


def test_an_endpoint_whose_creation_was_cut_off_comes_up_after_the_restart(tmp_path):
    with Server(tmp_path) as server:
        slow = ECHO + "\nimport time\ntime.sleep(1)\n"
        server.create_endpoint("slow", {"code/inference.py": slow})
        server.kill()
        server.start()
        server.wait_for_status("slow", "InService")
        assert server.invoke("slow", b"x") == b"x"


def test_the_server_stops_cleanly_in_the_middle_of_a_load(tmp_path):
    with Server(tmp_path) as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        with Load(server.port, "echo") as load:
            wait_for(lambda: load.good_since(0) > 50, what="the load to run")
            assert server.stop() == 0
        assert all(o.status in (0, 503) for o in load.failures)


def test_each_command_line_names_its_process_with_exactly_one_word(server):
    words = ["supervisor", "gateway", "control", "objects", "jobs", "host", "worker"]
    commands = [
        *server.processes().values(),
        Path(f"/proc/{server.process.pid}/cmdline").read_text(),
    ]
    seen = set()
    for command in commands:
        named = [word for word in words if f"clary-{word}" in command]
        assert len(named) == 1, command
        seen.add(named[0])
        if named[0] in ("host", "worker"):
            assert "echo/AllTraffic/i-" in command
    assert seen == {"supervisor", "gateway", "control", "objects", "host", "worker"}
