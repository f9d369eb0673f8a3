"""Invocations through a gateway to real workers: answers, errors, kills, queues, cancels."""

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime

import pytest

from clary.signing.keys import generate_key
from clary.signing.sign import sign
from gateways import in_background, wait_for

MEETING = """
import asyncio

def model_fn(model_dir):
    return asyncio.Event(), []

async def transform_fn(model, data, content_type, accept):
    everybody_is_here, calls = model
    calls.append(data)
    if len(calls) == int(data):
        everybody_is_here.set()
    await everybody_is_here.wait()
    return data, content_type
"""
"""Answers when as many calls are open as each says."""

NOTES = """
import os

def model_fn(model_dir):
    return None

def note(data):
    file = os.open("{done}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, data + b"\\n")
    os.close(file)
    if data == b"die":
        os._exit(1)

def transform_fn(model, data, content_type, accept):
    note(data)
    return data, content_type
"""
"""Writes down what it does."""

SLEEP, KILL, RAISE = "test/sleep", "test/kill", "test/raise"


def invoke(gateway, endpoint, body=b"", content_type="x/y", headers=()):
    with gateway.connect() as client:
        return client.invoke(endpoint, body, content_type, headers)


def error_of(reply):
    status, headers, body = reply
    return status, headers["x-amzn-errortype"], json.loads(body)


def test_an_unknown_endpoint_is_a_validation_error_in_awss_words(gateway):
    status, kind, answer = error_of(invoke(gateway, "nope"))
    assert (status, kind) == (400, "ValidationError")
    assert answer["Message"] == "Endpoint nope of account 123456789012 not found."


@pytest.mark.parametrize("name", ["-bad", "a" * 64, "under_score", "%2e%2e", ""])
def test_a_name_that_breaks_the_pattern_is_a_validation_error(gateway, name):
    status, kind, answer = error_of(invoke(gateway, name))
    assert (status, kind) == (400, "ValidationError")
    assert "failed to satisfy constraint" in answer["Message"]


@pytest.mark.parametrize(
    ("header", "value", "text"),
    [
        ("X-Amzn-SageMaker-Custom-Attributes", "a\xe9", "customAttributes"),
        ("X-Amzn-SageMaker-Custom-Attributes", "a" * 1025, "length less than or equal to 1024"),
        ("X-Amzn-SageMaker-Inference-Component", "c", "Inference Component Name header is not"),
        ("X-Amzn-SageMaker-Target-Model", "m.tar.gz", "TargetModel"),
        ("X-Amzn-SageMaker-Target-Variant", "Other", "Other not found"),
        ("Accept", "\xff", "accept"),
    ],
)
def test_a_header_that_cannot_be_taken_is_a_validation_error(gateway, header, value, text):
    status, kind, answer = error_of(invoke(gateway, "echo", headers=[(header, value)]))
    assert (status, kind) == (400, "ValidationError")
    assert text in answer["Message"]


def test_the_variant_that_answered_is_named(gateway):
    headers = invoke(gateway, "echo", headers=[("X-Amzn-SageMaker-Target-Variant", "AllTraffic")])[
        1
    ]
    assert headers["x-amzn-invoked-production-variant"] == "AllTraffic"


def test_the_handlers_error_arrives_as_model_error_and_the_next_call_works(gateway):
    status, kind, answer = error_of(invoke(gateway, "echo", b"my fault", RAISE))
    assert (status, kind) == (424, "ModelError")
    assert answer["OriginalStatusCode"] == 500
    assert answer["OriginalMessage"].startswith("my fault")
    assert 'Received server error (500) from primary with message "my fault' in answer["Message"]
    assert answer["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/echo")
    assert len(answer["Message"]) <= 2048
    assert invoke(gateway, "echo", b"fine")[2] == b"fine"


def test_a_call_that_takes_too_long_is_a_model_error_with_status_0(make_gateway, make_worker):
    gateway = make_gateway(router={"invocation_timeout_s": 0.3})
    gateway.route("echo", make_worker().address)
    status, kind, answer = error_of(invoke(gateway, "echo", b"1.5", SLEEP))
    assert (status, kind, answer["OriginalStatusCode"]) == (424, "ModelError", 0)
    assert (
        "Your invocation timed out while waiting for a response from container primary"
        in (answer["Message"])
    )


def test_when_a_worker_is_killed_only_the_request_in_work_fails(make_gateway, make_worker):
    gateway = make_gateway()
    worker, other = make_worker(), make_worker()
    gateway.route("echo", worker.address)
    slow = in_background(lambda: invoke(gateway, "echo", b"30", SLEEP))
    wait_for(lambda: gateway.registry.variant("echo", "AllTraffic").invocations == 1, "the call")
    queued = [in_background(lambda i=i: invoke(gateway, "echo", b"%d" % i)) for i in range(5)]
    wait_for(lambda: gateway.registry.variant("echo", "AllTraffic").invocations == 6, "the queue")
    gateway.route("echo", worker.address, other.address)
    worker.kill()
    status, kind, answer = error_of(slow())
    assert (status, kind, answer["OriginalStatusCode"]) == (424, "ModelError", 0)
    assert [wait()[2] for wait in queued] == [b"%d" % i for i in range(5)]


def test_what_a_killed_worker_had_not_begun_goes_elsewhere_and_nothing_runs_twice(
    make_gateway, make_worker, tmp_path
):
    """Answers of short calls leave together, so that some have been done and are not told yet."""
    done = tmp_path / "done"
    code = NOTES.format(done=done)
    gateway = make_gateway()
    worker, other = make_worker(code), make_worker(code)
    gateway.route("echo", worker.address)
    assert invoke(gateway, "echo", b"warm")[2] == b"warm"
    counters = gateway.registry.variant("echo", "AllTraffic")
    os.kill(worker.process.pid, signal.SIGSTOP)
    bodies = [b"before-0", b"before-1", b"before-2", b"die", b"after-0", b"after-1"]
    waits = []
    for body in bodies:
        waits.append(in_background(lambda body=body: invoke(gateway, "echo", body)))
        wait_for(lambda: counters.invocations == 1 + len(waits), "the call to be sent")
    gateway.route("echo", worker.address, other.address)
    os.kill(worker.process.pid, signal.SIGCONT)
    answers = {body: wait() for body, wait in zip(bodies, waits, strict=True)}

    assert worker.process.wait(10) == 1
    assert error_of(answers[b"die"])[:2] == (424, "ModelError")
    for body in (b"after-0", b"after-1"):
        assert answers[body][2] == body
    for body in (b"before-0", b"before-1", b"before-2"):
        assert answers[body][2] == body or error_of(answers[body])[:2] == (424, "ModelError")
    assert Counter(done.read_bytes().split()) == Counter([b"warm", *bodies])
    assert other.process.poll() is None


def test_a_restarted_worker_is_found_again_and_calls_wait_for_it(make_gateway, make_worker):
    gateway = make_gateway()
    worker = make_worker()
    gateway.route("echo", worker.address)
    assert error_of(invoke(gateway, "echo", b"", KILL))[1] == "ModelError"
    worker.process.wait()
    waiting = in_background(lambda: invoke(gateway, "echo", b"patient"))
    worker.start()
    assert waiting()[2] == b"patient"


def test_an_endpoint_without_an_instance_waits_for_one_then_says_unavailable(
    make_gateway, make_worker
):
    gateway = make_gateway(router={"instance_wait_s": 0.3})
    gateway.route("echo")
    status, kind, answer = error_of(invoke(gateway, "echo"))
    assert (status, kind) == (503, "ServiceUnavailable")
    assert "no healthy instance" in answer["Message"]

    patient = make_gateway()
    patient.route("echo")
    waiting = in_background(lambda: invoke(patient, "echo", b"here"))
    patient.route("echo", make_worker().address)
    assert waiting()[2] == b"here"


def test_an_endpoint_deleted_while_a_call_waits_is_not_found(make_gateway):
    gateway = make_gateway()
    gateway.route("echo")
    waiting = in_background(lambda: invoke(gateway, "echo"))
    wait_for(lambda: gateway.router._parked, "the call to be parked")
    gateway.publish("echo", None)
    assert error_of(waiting())[1] == "ValidationError"


def test_a_full_queue_answers_503_at_once(make_gateway, make_worker):
    gateway = make_gateway(router={"max_queue_per_worker": 8})
    gateway.route("echo", make_worker().address)
    counters = gateway.registry.variant("echo", "AllTraffic")
    slow = in_background(lambda: invoke(gateway, "echo", b"2", SLEEP))
    wait_for(lambda: counters.invocations == 1, "the slow call")
    queued = [in_background(lambda: invoke(gateway, "echo", b"ok")) for _ in range(7)]
    wait_for(lambda: counters.invocations == 8, "a full queue")
    status, kind, _ = error_of(invoke(gateway, "echo"))
    assert (status, kind) == (503, "ServiceUnavailable")
    (variant,) = gateway.router._endpoints["echo"].variants
    (worker,) = variant.instances[0].workers
    assert worker.channel.outstanding == 8, "nothing has been answered meanwhile"
    assert counters.overloaded == 1
    assert slow()[0] == 200
    assert all(wait()[0] == 200 for wait in queued)


def test_a_client_that_leaves_takes_its_queued_request_with_it(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker().address)
    counters = gateway.registry.variant("echo", "AllTraffic")
    slow = in_background(lambda: invoke(gateway, "echo", b"2", SLEEP))
    wait_for(lambda: counters.invocations == 1, "the slow call")
    leaving = gateway.connect()
    leaving.post("/endpoints/echo/invocations", b"30", [("Content-Type", SLEEP)])
    wait_for(lambda: counters.invocations == 2, "the queued call")
    leaving.connection.close()
    assert slow()[0] == 200
    assert invoke(gateway, "echo", b"soon")[2] == b"soon"  # not after the 30 s that nobody wants


def test_slow_calls_of_an_async_handler_run_side_by_side(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker(MEETING).address)
    waits = [in_background(lambda: invoke(gateway, "echo", b"8")) for _ in range(8)]
    assert all(wait()[0] == 200 for wait in waits)


def test_instances_share_the_load(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker().address, make_worker().address)
    (variant,) = gateway.router._endpoints["echo"].variants
    wait_for(lambda: all(i.is_usable for i in variant.instances), "both to be connected to")
    counters = gateway.registry.variant("echo", "AllTraffic")
    waits = [in_background(lambda: invoke(gateway, "echo", b"2", SLEEP)) for _ in range(2)]
    wait_for(lambda: counters.invocations == 2, "both calls")
    loads = [i.workers[0].channel.outstanding for i in variant.instances]
    assert loads == [1, 1]
    assert all(wait()[0] == 200 for wait in waits)


def test_a_slow_reader_does_not_hold_up_its_neighbours(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker().address)
    with gateway.connect() as slow:
        slow.post("/endpoints/echo/invocations", b"60000000", [("Content-Type", "test/large")])
        wait_for(lambda: gateway.registry.variant("echo", "AllTraffic").invocations == 1, "it")
        assert invoke(gateway, "echo", b"past it")[2] == b"past it"
        assert slow.read()[2] == b"x" * 60_000_000


@pytest.fixture
def key():
    return generate_key("tester", datetime.now(UTC))


def signed_headers(key, gateway, body, when=None, path="/endpoints/echo/invocations"):
    return list(
        sign(
            "POST",
            f"http://127.0.0.1:{gateway.port}{path}",
            {"content-type": "x/y"},
            body,
            key,
            region="us-east-1",
            service="sagemaker",
            now=when or datetime.now(UTC),
        ).items()
    )


@pytest.mark.parametrize("size", [10, 300_000])
def test_with_authentication_a_good_signature_gets_in_and_no_other(
    make_gateway, make_worker, key, size
):
    gateway = make_gateway(keys={key.id: key})
    gateway.route("echo", make_worker().address)
    body = b"b" * size

    def post(headers, body):
        with gateway.connect() as client:
            wanted = [(n, v) for n, v in headers if n.lower() not in ("host", "content-length")]
            client.post("/endpoints/echo/invocations", body, wanted)
            return client.read()

    good = signed_headers(key, gateway, body)
    assert post(good, body)[2] == body
    assert error_of(post(good, b"a" * size))[:2] == (403, "InvalidSignatureException")
    assert error_of(post([("Content-Type", "x/y")], body))[1] == "MissingAuthenticationToken"
    other = generate_key("stranger", datetime.now(UTC))
    assert error_of(post(signed_headers(other, gateway, body), body))[0] == 403
    old = datetime(2020, 1, 1, tzinfo=UTC)
    assert error_of(post(signed_headers(key, gateway, body, old), body))[0] == 403


def test_with_authentication_health_stays_open(make_gateway, key):
    gateway = make_gateway(keys={key.id: key})
    with gateway.connect() as client:
        client.send(b"GET /_clary/health HTTP/1.1\r\nHost: any.example\r\n\r\n")
        assert client.read()[0] == 200
