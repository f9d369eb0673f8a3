"""The supervisor with real processes: restarts, requests, lifelines, the end of everything."""

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clary.messages import LineDecoder, encode_line
from clary.supervisor import EXIT_CONFIGURATION, Plan, Role
from clary.supervisor.sockets import open_unix

SLEEPER = "import time\ntime.sleep(600)"
LIFELINE_READER = "import os\nos.read(int(os.environ['CLARY_LIFELINE_FD']), 1)"


def wait_for(condition, what, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Running:
    """A supervisor in a directory of its own."""

    def __init__(self, directory, roles, port=0):
        self.directory = directory
        plan = Plan(
            data_dir=str(directory),
            run_dir=str(directory),
            log_dir=str(directory),
            host="127.0.0.1",
            port=port,
            roles=roles,
        )
        (directory / "plan.json").write_text(plan.to_json())
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "clary.supervisor",
                "clary-supervisor",
                str(directory / "plan.json"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def facts(self):
        file = self.directory / "server.json"
        wait_for(file.exists, "server.json")
        return json.loads(file.read_text())

    def ask(self, **request):
        path = self.directory / "supervisor.sock"
        wait_for(path.exists, "supervisor.sock")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            wait_for(lambda: connection.connect_ex(str(path)) == 0, "somebody to listen")
            connection.sendall(encode_line(request))
            decoder = LineDecoder()
            while True:
                replies = decoder.feed(connection.recv(65536))
                if replies:
                    return replies[0]

    def spawn(self, id, code):
        return self.ask(
            op="spawn",
            id=id,
            argv=[sys.executable, "-c", code],
            env=dict(os.environ),
            cwd=str(self.directory),
            log=str(self.directory / f"{id}.log"),
        )

    def end(self):
        """Kill the supervisor, and then its children, which here heed no lifeline."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # that it starts none of them again
            pids = Path(children).read_text().split()
            self.process.kill()
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def start(tmp_path):
    running = []

    def start_one(*roles, port=0, directory=tmp_path):
        one = Running(directory, list(roles), port)
        running.append(one)
        return one

    yield start_one
    for one in running:
        one.end()


def role(name, code, **options):
    return Role(name=name, argv=[sys.executable, "-c", code], **options)


def test_a_role_that_dies_is_started_again(start, tmp_path):
    code = f"import os\nopen({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    start(role("worker", code + SLEEPER))
    pids = tmp_path / "pids"
    first = int(wait_for(lambda: pids.exists() and pids.read_text(), "the first start"))
    os.kill(first, signal.SIGKILL)
    second = int(wait_for(lambda: pids.read_text().splitlines()[1:], "the second start")[0])
    assert second != first


def test_a_role_that_cannot_be_configured_ends_the_server_with_its_reason(start, tmp_path):
    code = (
        f"open({str(tmp_path / 'control.error')!r}, 'w').write('store.url: no such place')\n"
        f"raise SystemExit({EXIT_CONFIGURATION})"
    )
    running = start(role("control", code), role("other", SLEEPER))
    _, printed = running.process.communicate(timeout=20)
    assert running.process.returncode == 2
    assert "store.url: no such place" in printed


def test_the_listening_socket_survives_the_role_that_serves_it(start):
    code = (
        "import os, socket\n"
        "listener = socket.socket(fileno=int(os.environ['CLARY_LISTEN_FD']))\n"
        "listener.setblocking(True)\n"
        "while True:\n"
        "    connection, _ = listener.accept()\n"
        "    connection.sendall(str(os.getpid()).encode())\n"
        "    connection.close()\n"
    )
    running = start(role("gateway-0", code, gets_port=True))
    port = int(running.facts()["url"].rpartition(":")[2])

    def ask():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            return int(connection.recv(64))

    first = ask()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not is_alive(first), "its death")  # or it might still take the connection
    assert ask() != first  # was queued in the socket until the next one served


def test_spawning_is_idempotent_and_the_dead_stay_listed_until_forgotten(start):
    running = start()
    first = running.spawn("i-1", SLEEPER)
    assert running.spawn("i-1", SLEEPER) == first
    assert running.ask(op="signal", id="i-1", signal=9, group=False)["delivered"]
    wait_for(lambda: not running.ask(op="list")["children"][0]["alive"], "the death")
    assert running.ask(op="list")["children"][0]["returncode"] == -9
    assert running.ask(op="forget", id="i-1") == {"ok": True}
    assert running.ask(op="list")["children"] == []
    assert running.ask(op="signal", id="i-1", signal=9, group=True)["delivered"] is False


def test_the_directory_of_a_log_is_made_again_when_somebody_has_removed_it(start, tmp_path):
    log = tmp_path / "removed" / "AllTraffic" / "i-1.log"
    running = start()
    running.ask(
        op="spawn", id="i-1", argv=[sys.executable, "-c", "print('here')"], env={}, log=str(log)
    )
    wait_for(lambda: log.exists() and log.read_text() == "here\n", "its line")


def test_the_group_of_a_dead_child_can_still_be_reached(start, tmp_path):
    pid_file = tmp_path / "grandchild"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n" + SLEEPER
    )
    running = start()
    running.spawn("i-1", code)
    grandchild = int(wait_for(lambda: pid_file.exists() and pid_file.read_text(), "it"))
    running.ask(op="signal", id="i-1", signal=9, group=False)
    wait_for(lambda: not running.ask(op="list")["children"][0]["alive"], "the death")
    assert is_alive(grandchild)
    assert running.ask(op="signal", id="i-1", signal=9, group=True)["delivered"]
    wait_for(lambda: not is_alive(grandchild), "the end of the group")


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "dance"},
        {"op": "spawn", "id": "i-1"},
        {"op": "signal", "id": "i-1", "signal": "x"},
        {"op": "spawn", "id": "i", "argv": ["/no/such"], "env": {}, "log": "/dev/null"},
    ],
)
def test_a_bad_request_gets_an_error_and_moves_nothing(start, request_):
    running = start(role("other", SLEEPER))
    answer = running.ask(**request_)
    assert answer["ok"] is False
    assert answer["error"]
    assert running.ask(op="list") == {"ok": True, "children": []}


def test_sigterm_stops_everything(start):
    running = start(role("a", SLEEPER))
    child = running.spawn("i-1", SLEEPER)["pid"]
    running.process.terminate()
    assert running.process.wait(timeout=20) == 0
    assert not is_alive(child)
    assert not (running.directory / "server.json").exists()


def test_children_see_the_end_of_the_lifeline_when_the_supervisor_is_killed(start):
    running = start()
    child = running.spawn("i-1", LIFELINE_READER)["pid"]
    assert is_alive(child)
    running.process.kill()
    wait_for(lambda: not is_alive(child), "the child to leave")


def test_a_data_directory_is_used_by_one_server_at_a_time(start, tmp_path):
    first = start(role("a", SLEEPER))
    pid = first.facts()["pid"]
    second = start(role("a", SLEEPER))
    _, printed = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert f"process {pid}" in printed


def test_a_taken_port_is_said_so(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start(role("a", SLEEPER), port=port)
        _, printed = running.process.communicate(timeout=20)
    assert running.process.returncode == 1
    assert f"port {port} is taken" in printed


SERVER_ON_DEMAND = (
    "import os, socket, sys\n"
    "listener = socket.socket(fileno=int(os.environ['CLARY_LISTEN_FD']))\n"
    "listener.setblocking(True)\n"
    "while True:\n"
    "    connection, _ = listener.accept()\n"
    "    connection.sendall(str(os.getpid()).encode())\n"
    "    connection.close()\n"
)


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def test_a_role_on_demand_starts_with_its_first_connection_which_waits_for_it(start, tmp_path):
    path = tmp_path / "jobs.sock"
    running = start(role("jobs", SERVER_ON_DEMAND, socket=str(path)), role("other", SLEEPER))
    running.facts()
    wait_for((tmp_path / "other.log").exists, "the other role")
    assert not (tmp_path / "jobs.log").exists()
    assert not (tmp_path / "jobs.pid").exists()
    with connect(path) as first, connect(path) as second:
        pid = int(first.recv(64))
        assert int(second.recv(64)) == pid
    assert (tmp_path / "jobs.pid").read_text() == str(pid)


def test_a_socket_that_is_there_can_be_connected_to(tmp_path):
    path = tmp_path / "any.sock"
    listeners, refused, stop = [], [], threading.Event()

    def watch():
        while not stop.is_set():
            if path.exists():
                with socket.socket(socket.AF_UNIX) as connection:
                    error = connection.connect_ex(str(path))
                    if error == errno.ECONNREFUSED:
                        refused.append(error)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(200):
            listeners.append(open_unix(str(path)))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.unlink()
    finally:
        stop.set()
        watching.join()
        for listener in listeners:
            listener.close()
    assert refused == []
    assert list(tmp_path.iterdir()) == []


def test_a_role_on_demand_that_dies_is_started_again_without_being_asked(start, tmp_path):
    path = tmp_path / "jobs.sock"
    running = start(role("jobs", SERVER_ON_DEMAND, socket=str(path)))
    running.facts()
    with connect(path) as connection:
        pid = int(connection.recv(64))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: (tmp_path / "jobs.pid").read_text() not in ("", str(pid)), "the next one")
    with connect(path) as connection:
        assert int(connection.recv(64)) != pid


def test_a_role_on_demand_that_cannot_be_configured_leaves_the_server_alone(start, tmp_path):
    path = tmp_path / "jobs.sock"
    code = (
        f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\n"
        f"raise SystemExit({EXIT_CONFIGURATION})"
    )
    running = start(role("jobs", code, socket=str(path)), role("other", SLEEPER))
    running.facts()
    with connect(path):
        starts = tmp_path / "starts"
        wait_for(lambda: starts.exists() and len(starts.read_text()) > 1, "two starts")
    assert running.process.poll() is None


def test_roles_on_demand_are_stopped_before_those_that_they_need(start, tmp_path):
    path = tmp_path / "jobs.sock"
    order = tmp_path / "order"
    says_goodbye = (
        "import signal, sys, time\n"
        "def leave(*_):\n"
        "    time.sleep({pause})\n"
        f"    open({str(order)!r}, 'a').write('{{name}} ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        f"open({str(order)!r} + '.{{name}}', 'w').close()\n"
    )
    running = start(
        role("control", says_goodbye.format(name="control", pause=0) + SLEEPER),
        role("jobs", says_goodbye.format(name="jobs", pause=0.2) + SLEEPER, socket=str(path)),
        role("gateway-0", says_goodbye.format(name="gateway", pause=0.2) + SLEEPER, gets_port=True),
    )
    running.facts()
    with connect(path):
        for name in ("control", "jobs", "gateway"):
            wait_for(Path(f"{order}.{name}").exists, name)
    running.process.terminate()
    assert running.process.wait(timeout=20) == 0
    assert order.read_text().split() == ["gateway", "jobs", "control"]
    assert not (tmp_path / "jobs.pid").exists()


def test_a_server_stops_with_a_role_that_nobody_has_needed(start, tmp_path):
    path = tmp_path / "jobs.sock"
    running = start(role("jobs", SERVER_ON_DEMAND, socket=str(path)))
    running.facts()
    running.process.terminate()
    assert running.process.wait(timeout=20) == 0
    assert not (tmp_path / "jobs.log").exists()
