"""Lives and deaths of host and workers: loading, failing, hanging, being killed, stopping."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clary.messages import PING, encode_frame
from instances import ECHO, Instance, an_instance, is_alive, rss_kb, wait_for


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with an_instance(tmp_path) as instance:
        yield instance


LOAD_FAILURES = [
    pytest.param("def model_fn(:\n", 1, ["SyntaxError", "inference.py"], id="syntax-error"),
    pytest.param(
        "def predict_fn(data, model): return data\n",
        1,
        ["Please provide a model_fn implementation"],
        id="missing-function",
    ),
    pytest.param(
        "def model_fn(model_dir): pass\ndef predict_fn(data): pass\n",
        1,
        ["predict_fn takes 1 arguments but 2 were given"],
        id="wrong-arguments",
    ),
    pytest.param(
        "def model_fn(model_dir): pass\ndef transform_fn(m, d, c, a): pass\n"
        "def output_fn(p, a): pass\n",
        1,
        ["Cannot use transform_fn implementation in conjunction with"],
        id="transform-beside-output",
    ),
    pytest.param(
        "import no_such_flower\n",
        3,
        ["ModuleNotFoundError: No module named 'no_such_flower'"],
        id="import-error",
    ),
    pytest.param(
        "def model_fn(model_dir):\n    raise OSError('weights are missing')\n",
        3,
        ["OSError: weights are missing", "in model_fn"],
        id="exception",
    ),
    pytest.param(
        "import sys\ndef model_fn(model_dir):\n    sys.exit('no luck')\n",
        3,
        ["sys.exit('no luck')"],
        id="sys-exit",
    ),
    pytest.param(
        "import os\ndef model_fn(model_dir):\n    print('before the end', flush=True)\n"
        "    os.abort()\n",
        3,
        ["signal 6 (SIGABRT)", "in model_fn"],
        id="abort",
    ),
    pytest.param(
        "import ctypes\ndef model_fn(model_dir):\n    ctypes.string_at(0)\n",
        3,
        ["signal 11 (SIGSEGV)"],
        id="segfault",
    ),
    pytest.param(
        "import os\ndef model_fn(model_dir):\n    print('last words')\n    os._exit(7)\n",
        3,
        ["exit status 7", "last words"],
        id="exit",
    ),
]


@pytest.mark.parametrize(("code", "attempts", "texts"), LOAD_FAILURES)
def test_what_ends_while_loading_fails_at_once_with_its_reason(
    instance: Instance, code: str, attempts: int, texts: list[str]
) -> None:
    instance.start(code)
    status = instance.wait_for_state("failed", timeout_s=10)
    assert instance.workers()[0]["starts"] == attempts
    for text in texts:
        assert text in status["reason"]
    assert len(status["reason"]) <= 700
    instance.stop()
    assert instance.process is not None
    assert instance.process.wait(10) == 0


def test_an_endless_load_fails_when_its_time_is_over_and_shows_where_it_is(
    instance: Instance,
) -> None:
    code = "def model_fn(model_dir):\n    while True:\n        pass\n"
    instance.start(code, startup_timeout_s=2)
    status = instance.wait_for_state("failed", timeout_s=10)
    assert "was not ready 2 s after" in status["reason"]
    assert " in model_fn" in status["reason"]
    assert instance.workers()[0] == {
        "address": f"unix:{instance.run_dir}/w0.sock",
        "state": "dead",
        "pid": None,
        "starts": 1,
    }


def test_an_interpreter_that_is_not_there_is_named(instance: Instance) -> None:
    instance.start(container={"python": "/nowhere/python"})
    assert "/nowhere/python" in instance.wait_for_state("failed")["reason"]


def test_other_workers_start_when_the_first_is_ready(instance: Instance) -> None:
    instance.start(container={"workers": 3})
    wait_for(
        lambda: instance.status() and [w["state"] for w in instance.workers()] == ["ready"] * 3,
        "three workers",
    )
    pids = {worker["pid"] for worker in instance.workers()}
    assert len(pids) == 3
    assert [instance.client(n).invoke(b"1")[2] for n in range(3)] == [b"1"] * 3


def test_a_handler_that_kills_its_process_takes_only_that_request_with_it(
    instance: Instance,
) -> None:
    code = """
import os
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    if data == "die":
        os.kill(os.getpid(), 9)
    return data
"""
    client = instance.ready(code)
    client.submit("die")
    with pytest.raises(ConnectionError):
        client.frame()
    instance.wait_for_restart()
    assert instance.client().invoke("alive")[2] == b"alive"
    assert instance.status()["state"] == "healthy"
    assert "signal 9 (SIGKILL)" in instance.log()


def test_a_hanging_handler_is_replaced_and_its_stack_is_in_the_log(instance: Instance) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    while data == "hang":
        pass
    return data
"""
    client = instance.ready(code, invocation_timeout_s=1, hung_grace_s=0.5)
    started = time.monotonic()
    client.submit("hang")
    with pytest.raises(ConnectionError):
        client.frame()
    assert time.monotonic() - started > 1.4
    instance.wait_for_restart()
    assert instance.client().invoke("alive")[2] == b"alive"
    log = instance.log()
    assert "in transform_fn" in log
    assert "hanging in one call" in log


def test_a_long_call_within_its_limit_is_left_alone(instance: Instance) -> None:
    code = """
import time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    time.sleep(1.5)
    return data
"""
    # Far more pings fail meanwhile than a worker that does nothing may miss.
    client = instance.ready(code, ping_interval_s=0.05, ping_timeout_s=0.05)
    assert client.invoke("slow")[2] == b"slow"
    instance.status()
    assert instance.workers()[0]["starts"] == 1


def test_a_stopped_worker_that_is_in_no_call_is_replaced_after_its_pings(
    instance: Instance,
) -> None:
    instance.ready(ping_interval_s=0.05, ping_timeout_s=0.05)
    os.kill(instance.workers()[0]["pid"], signal.SIGSTOP)
    instance.wait_for_restart()
    assert "failed 3 pings in a row" in instance.log()


def test_stopping_finishes_the_call_in_hand(instance: Instance) -> None:
    code = """
import time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    open("begun", "w").close()
    time.sleep(0.3)
    return data
"""
    client = instance.ready(code)
    client.submit("first")
    client.submit("second")
    wait_for((instance.code_dir / "begun").exists, "the first call")
    instance.stop()
    assert [client.reply()[3], client.reply()[3]] == [b"first", b"second"]
    assert instance.process is not None
    assert instance.process.wait(10) == 0


def test_a_worker_that_does_not_stop_is_killed(instance: Instance) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    open("begun", "w").close()
    while True: pass
"""
    client = instance.ready(code, stop_timeout_s=0.5)
    client.submit()
    wait_for((instance.code_dir / "begun").exists, "the call")
    pid = instance.workers()[0]["pid"]
    assert instance.process is not None
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(10) == 0
    assert not is_alive(pid)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in-a-call"])
def test_nothing_is_left_when_the_lifeline_is_cut(instance: Instance, busy: bool) -> None:
    code = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    open("begun", "w").close()
    while True: pass
"""
    client = instance.ready(code, stop_timeout_s=0.5, container={"workers": 2})
    wait_for(
        lambda: instance.status() and all(w["pid"] for w in instance.workers()), "both workers"
    )
    if busy:
        client.submit()
        wait_for((instance.code_dir / "begun").exists, "the call")
    pids = [worker["pid"] for worker in instance.workers()]
    instance.cut_lifeline()
    assert instance.process is not None
    assert instance.process.wait(10) == 0
    wait_for(lambda: not any(map(is_alive, pids)), "the workers to leave")


def test_workers_serve_on_when_their_host_is_killed_and_leave_with_the_lifeline(
    instance: Instance,
) -> None:
    code = """
import time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    print("called with", data)
    while data == "hang":
        time.sleep(0.01)
    return data
"""
    client = instance.ready(code, stop_timeout_s=0.5)
    pid = instance.workers()[0]["pid"]
    assert instance.process is not None
    instance.process.kill()
    instance.process.wait()
    assert client.invoke("orphan")[2] == b"orphan"
    assert instance.client().invoke("again")[2] == b"again"
    assert "called with again" in instance.log()
    client.submit("hang")
    wait_for(lambda: "called with hang" in instance.log(), "the last call")
    instance.cut_lifeline()
    wait_for(lambda: not is_alive(pid), "the worker to leave")


def test_command_lines_hold_one_word_each(instance: Instance) -> None:
    instance.ready()
    assert instance.process is not None
    lines = {
        "clary-host": instance.process.pid,
        "clary-worker": instance.workers()[0]["pid"],
    }
    words = ["supervisor", "gateway", "control", "objects", "jobs", "host", "worker"]
    for word, pid in lines.items():
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        held = [w for w in words for part in command.split() if f"clary-{w}" in part]
        assert held == [word.removeprefix("clary-")], command
        assert " digits/AllTraffic/i-1 " in command


def test_an_idle_host_and_an_idle_worker_are_small(instance: Instance) -> None:
    instance.ready(ECHO)
    assert instance.process is not None
    assert rss_kb(instance.workers()[0]["pid"]) <= 25 * 1024
    assert rss_kb(instance.process.pid) <= 15 * 1024


def test_host_socket_and_worker_socket_are_the_owners_alone(instance: Instance) -> None:
    instance.ready()
    for name in ("host.sock", "w0.sock"):
        assert (instance.run_dir / name).stat().st_mode & 0o777 == 0o600


def older_pythons() -> list[Path]:
    """Interpreters of pyenv, one for each minor version that a model may want."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    wanted = ("3.9", "3.10", "3.12", "3.13", "3.14")
    found = {
        path.name.rpartition(".")[0]: path / "bin" / "python" for path in sorted(root.glob("3.*"))
    }
    return [found[version] for version in wanted if version in found]


@pytest.mark.skipif(not older_pythons(), reason="no other interpreters under pyenv's root")
@pytest.mark.parametrize("python", older_pythons(), ids=lambda path: path.parent.parent.name)
@pytest.mark.parametrize("style", ["def", "async def"])
def test_a_model_may_have_another_python(instance: Instance, python: Path, style: str) -> None:
    code = ECHO.replace("def predict_fn", f"{style} predict_fn")
    client = instance.ready(code, container={"python": str(python)})
    assert client.hello.number == (1 if style == "def" else 0)
    assert client.invoke('{"a": 1}')[2] == b'{"a": 1}'
    large = '"' + "x" * 1_000_000 + '"'
    assert client.invoke(large)[2] == large.encode()
    client.send(encode_frame(PING, number=1))
    assert client.frame().number == 1
    instance.stop()
    assert instance.process is not None
    assert instance.process.wait(10) == 0
    warnings = [line for line in instance.log().splitlines() if "Warning" in line]
    assert not warnings


def test_a_worker_carries_nothing_of_our_dependencies(instance: Instance) -> None:
    """In an interpreter without packages all of the worker's modules import, and only ours."""
    entry = Path(__file__).parents[3] / "src" / "clary" / "worker" / "main.py"
    script = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("entry", {str(entry)!r})
entry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(entry)
before = list(sys.path)
entry.install_package()
import clary.worker.serving, clary.worker.handlers.command, clary.worker.host
assert sys.path == before
files = [str(getattr(module, "__file__", "")) for module in sys.modules.values()]
print([file for file in files if "site-packages" in file])
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
