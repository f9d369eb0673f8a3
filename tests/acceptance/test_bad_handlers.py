"""Handlers that do not load, and handlers that misbehave when they are called.

The first kind fails its endpoint, quickly and in its own words; the second costs the request that
met it and no other.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from handlers import ECHO
from server import Server, wait_for

STARTUP_TIMEOUT_S = 5.0
SOON_S = 20.0
"""Far below the 480 s of the default start-up limit, and enough for a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(
        tmp_path_factory.mktemp("handlers"),
        CLARY_ROUTER_INVOCATION_TIMEOUT_S="1",
        CLARY_FLEET_HUNG_GRACE_S="1",
        CLARY_FLEET_PING_INTERVAL_S="0.5",
        CLARY_FLEET_PING_TIMEOUT_S="0.5",
    ) as running:
        yield running


# -- while loading --------------------------------------------------------------------------------

FAILING: dict[str, tuple[dict[str, str | bytes], list[str]]] = {
    "syntax-error": (
        {"code/inference.py": "print('reading')\ndef model_fn(model_dir)\n    return 1\n"},
        ["SyntaxError: expected ':'", 'inference.py", line 2'],
    ),
    "bytes-that-are-no-text": (
        {"code/inference.py": b"name = '\xff\xfe'\n"},
        ["SyntaxError", "inference.py"],
    ),
    "missing-function": (
        {"code/inference.py": "def predict_fn(data, model):\n    return data\n"},
        ["model_fn", "code/inference.py"],
    ),
    "missing-file": (
        {"code/other.py": ECHO},
        ["code/inference.py does not exist"],
    ),
    "wrong-arguments": (
        {"code/inference.py": ECHO.replace("model_fn(model_dir)", "model_fn()")},
        ["model_fn takes 0 arguments but 1 were given"],
    ),
    "import-error": (
        {"code/inference.py": "print('about to import')\nimport no_such_library\n" + ECHO},
        ["ModuleNotFoundError: No module named 'no_such_library'", "about to import"],
    ),
    "import-error-in-its-own-module": (
        {"code/inference.py": "import mine\n" + ECHO, "code/mine.py": "1 / 0\n"},
        ["ZeroDivisionError: division by zero", 'mine.py", line 1, in <module>'],
    ),
    "exception-in-model-fn": (
        {
            "code/inference.py": "def model_fn(model_dir):\n    print('opening')\n"
            "    raise OSError('weights.bin is not there')\n"
        },
        ["OSError: weights.bin is not there", "opening"],
    ),
    "exit-in-model-fn": (
        {
            "code/inference.py": "import sys\ndef model_fn(model_dir):\n"
            "    print('leaving')\n    sys.exit(3)\n"
        },
        ["SystemExit: 3", "leaving"],
    ),
    "exit-on-import": (
        {"code/inference.py": "import sys\nsys.exit('no licence key')\n"},
        ["SystemExit: no licence key"],
    ),
    "hard-exit": (
        {"code/inference.py": "import os\nprint('gone', flush=True)\nos._exit(7)\n"},
        ["exit status 7", "gone"],
    ),
    "segmentation-fault": (
        {
            "code/inference.py": "import ctypes\nprint('into the void', flush=True)\n"
            "ctypes.string_at(0)\n"
        },
        ["signal 11 (SIGSEGV)"],
    ),
    "abort": (
        {"code/inference.py": "import os\nos.abort()\n"},
        ["signal 6 (SIGABRT)"],
    ),
}


def failure(server: Server, name: str, timeout_s: float = SOON_S) -> str:
    """Wait until the endpoint has failed; return its reason."""
    reason = str(server.wait_for_status(name, "Failed", timeout_s=timeout_s)["FailureReason"])
    assert len(reason) <= 1024
    return reason


@pytest.mark.parametrize("kind", FAILING)
def test_a_handler_that_does_not_load_fails_soon_with_its_own_words(
    server: Server, kind: str
) -> None:
    files, words = FAILING[kind]
    name = f"fails-by-{kind}"
    server.create_endpoint(name, files)
    reason = failure(server, name)

    assert reason.startswith(
        "The primary container for production variant AllTraffic did not pass the ping health "
        "check. Please check CloudWatch logs for this endpoint."
    )
    for word in words:
        assert word in reason, reason
    with pytest.raises(server.runtime.exceptions.ClientError, match="not found"):
        server.invoke(name)
    server.delete_endpoint(name)
    assert server.pids("clary-host", f"{name}/") == []


def test_the_whole_story_is_in_the_log(server: Server) -> None:
    server.create_endpoint(
        "telling",
        {
            "code/inference.py": "def model_fn(model_dir):\n    return helper()\n\n"
            "def helper():\n    raise KeyError('label')\n"
        },
    )
    failure(server, "telling")
    log = server.cli("logs", "telling").stdout
    assert "Traceback (most recent call last):" in log
    assert "line 2, in model_fn" in log
    assert "line 5, in helper" in log
    assert "KeyError: 'label'" in log


def test_only_silence_waits_for_the_start_up_limit_and_shows_where_it_is(
    server: Server, tmp_path: Any
) -> None:
    endless = "def model_fn(model_dir):\n    print('warming up', flush=True)\n    spin()\n\n"
    endless += "def spin():\n    while True:\n        pass\n"
    with Server(tmp_path, CLARY_FLEET_STARTUP_TIMEOUT_S=str(STARTUP_TIMEOUT_S)) as server:
        started = time.monotonic()
        server.create_endpoint("endless", {"code/inference.py": endless})
        reason = failure(server, "endless", timeout_s=STARTUP_TIMEOUT_S + SOON_S)
        assert time.monotonic() - started >= STARTUP_TIMEOUT_S
        assert "did not pass the ping health check" in reason
        assert f"{STARTUP_TIMEOUT_S:g} s" in reason
        log = server.cli("logs", "endless").stdout
        assert "warming up" in log
        assert "in spin" in log

        # The limit of the request counts, where it names one.
        server.create_endpoint(
            "hasty",
            {"code/inference.py": "import time\ntime.sleep(600)\n"},
            ContainerStartupHealthCheckTimeoutInSeconds=60,
        )
        assert server.sagemaker.describe_endpoint(EndpointName="hasty")["EndpointStatus"] == (
            "Creating"
        )


REQUIREMENTS = {
    "unknown-package": ("no-such-package-xyz==99\n", "no-such-package-xyz"),
    "impossible-version": ("boto3==0.0.1+nobody\n", "boto3==0.0.1+nobody"),
    "contradiction": ("idna==3.4\nidna==3.5\n", "idna==3.4 and idna==3.5"),
    "no-requirement": ("this is, no requirement!\n", "requirements.txt"),
}


@pytest.mark.parametrize("kind", REQUIREMENTS)
def test_requirements_that_cannot_be_resolved_fail_with_the_resolvers_message(
    server: Server, kind: str
) -> None:
    text, words = REQUIREMENTS[kind]
    server.create_endpoint(kind, {"code/inference.py": ECHO, "code/requirements.txt": text})
    reason = failure(server, kind, timeout_s=60)

    assert reason.startswith(
        "The primary container for production variant AllTraffic could not be prepared: the "
        "packages of requirements.txt cannot be installed: "
    )
    assert words in reason
    assert [path for path in (server.data_dir / "environments").glob("*")] == []


# -- when called ----------------------------------------------------------------------------------

MISBEHAVING = """
import ctypes, os, sys, time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return body.decode()

def predict_fn(what, model):
    if what == "raise":
        raise LookupError("no row of that name")
    if what == "garbage":
        return object()
    if what == "hang":
        hang()
    if what == "nap":
        time.sleep(0.05)
        return str(os.getpid())
    if what == "exit":
        sys.exit(4)
    if what == "die":
        os._exit(9)
    if what == "abort":
        os.abort()
    if what == "segfault":
        ctypes.string_at(0)
    return what

def hang():
    while True:
        time.sleep(0.01)

def output_fn(result, accept):
    return (result if isinstance(result, str) else result), "text/plain"
"""


def deploy_misbehaving(server: Server, name: str, workers: int = 1) -> None:
    server.deploy(
        name,
        {"code/inference.py": MISBEHAVING},
        environment={"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)},
    )


@pytest.fixture(scope="module")
def misbehaving(server: Server) -> str:
    """An endpoint of one worker that does what it is told."""
    deploy_misbehaving(server, "misbehaving")
    return "misbehaving"


def model_error(server: Server, endpoint: str, body: str) -> dict[str, Any]:
    """Invoke, and return the members of the ModelError that comes."""
    with pytest.raises(server.runtime.exceptions.ModelError) as raised:
        invoke(server, endpoint, body)
    response: dict[str, Any] = raised.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["LogStreamArn"].endswith(f"log-group:/aws/sagemaker/Endpoints/{endpoint}")
    return response


def invoke(server: Server, endpoint: str, what: str) -> bytes:
    return server.invoke(endpoint, what, "application/octet-stream")


def answers(server: Server, endpoint: str) -> bool:
    return invoke(server, endpoint, "fine") == b"fine"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise", "LookupError: no row of that name"),
        ("garbage", "object"),
        ("exit", "SystemExit: 4"),
    ],
)
def test_a_failing_call_is_a_model_error_of_that_request_alone(
    server: Server, misbehaving: str, body: str, words: str
) -> None:
    pids = server.pids("clary-worker", f"{misbehaving}/")
    failed = model_error(server, misbehaving, body)

    assert failed["OriginalStatusCode"] == 500
    assert words in failed["OriginalMessage"]
    assert failed["Error"]["Message"].startswith("Received server error (500) from primary with ")
    assert answers(server, misbehaving)
    assert server.pids("clary-worker", f"{misbehaving}/") == pids


@pytest.mark.parametrize("body", ["die", "abort", "segfault"])
def test_a_call_that_kills_its_process_costs_only_itself(server: Server, body: str) -> None:
    # An endpoint of its own for each: a worker that dies again and again is started later.
    name = f"killed-by-{body}"
    deploy_misbehaving(server, name)
    (pid,) = server.pids("clary-worker", f"{name}/")
    failed = model_error(server, name, body)

    assert failed["OriginalStatusCode"] in (0, 500)
    assert answers(server, name)  # it waits until the worker has been started again
    assert pid not in server.pids("clary-worker", f"{name}/")
    described = server.sagemaker.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "InService"


def test_a_call_that_hangs_ends_alone_and_its_worker_is_replaced(
    server: Server, misbehaving: str
) -> None:
    (pid,) = server.pids("clary-worker", f"{misbehaving}/")
    started = time.monotonic()
    failed = model_error(server, misbehaving, "hang")

    assert time.monotonic() - started >= 1.0
    assert failed["OriginalStatusCode"] == 0
    assert "Your invocation timed out while waiting for a response" in failed["OriginalMessage"]
    wait_for(
        lambda: server.pids("clary-worker", f"{misbehaving}/") not in ([], [pid]),
        timeout_s=SOON_S,
        what="the hung worker to be replaced",
    )
    assert answers(server, misbehaving)
    log = server.cli("logs", misbehaving).stdout
    assert "in hang" in log
    assert "in predict_fn" in log


def test_a_hanging_call_of_one_worker_leaves_the_other_serving(server: Server) -> None:
    name = "two-workers"
    deploy_misbehaving(server, name, workers=2)

    def two_take_calls() -> bool:
        with ThreadPoolExecutor(2) as pool:
            pids = set(pool.map(lambda _: invoke(server, name, "nap"), range(2)))
        return len(pids) == 2

    wait_for(two_take_calls, timeout_s=SOON_S, what="both workers to take calls")
    workers = server.pids("clary-worker", f"{name}/")
    hanging = threading.Thread(target=model_error, args=(server, name, "hang"))
    hanging.start()
    try:
        served = 0
        while hanging.is_alive():
            served += answers(server, name)
        assert served > 10
    finally:
        hanging.join()
    wait_for(
        lambda: server.pids("clary-worker", f"{name}/") not in ([], workers),
        timeout_s=SOON_S,
        what="the hung worker to be replaced",
    )
