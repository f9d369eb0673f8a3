"""What a gateway counts of a shadow variant, and how it finds the place of a session."""

import json

import pytest

from clary.resources.data_capture import DataCapture
from clary.resources.routing_table import (
    ContainerRoute,
    EndpointRoute,
    InstanceRoute,
    VariantRoute,
)
from gateways import HANDLER, wait_for

SESSIONS = """
def model_fn(model_dir):
    return {}

def transform_fn(model, data, content_type, accept, context):
    name = "X-Amzn-SageMaker-Session-Id"
    session = context.get_request_header(0, name)
    if session == "NEW_SESSION":
        model["mine"] = 0
        context.set_response_header(0, name, "mine; Expires=2100-01-01T00:00:00Z")
    else:
        model["mine"] += 1
        if data == b"close":
            context.set_response_header(0, "X-Amzn-SageMaker-Closed-Session-Id", session)
    return str(model["mine"]), session
"""
SESSION_ID = "X-Amzn-SageMaker-Session-Id"


def a_variant(name, *workers, weight=1.0):
    instances = tuple(
        InstanceRoute(
            id=f"i-{name}-{n}",
            containers=(ContainerRoute(name="primary", workers=(worker.address,)),),
        )
        for n, worker in enumerate(workers)
    )
    return VariantRoute(name=name, weight=weight, instances=instances)


def publish(gateway, production, shadow=None, capture=None):
    route = EndpointRoute(name="echo", variants=(production,), shadow=shadow, capture=capture)
    gateway.publish("echo", route)


def invoke(gateway, body=b"", content_type="text/plain", headers=()):
    with gateway.connect() as client:
        return client.invoke("echo", body, content_type, headers)


@pytest.fixture
def shadowed(make_gateway, make_worker):
    """A gateway with an endpoint whose shadow works like production, with room for two copies."""
    gateway = make_gateway(router={"shadow_max_outstanding": 2, "shadow_max_bytes": 100_000})
    worker = make_worker()
    shadow = make_worker()
    publish(gateway, a_variant("main", worker), a_variant("shadow", shadow))
    gateway.shadow_worker = shadow
    gateway.shadow_counters = gateway.registry.variant("echo", "shadow")
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    return gateway


def channels_are_ready(gateway):
    return all(worker.channel.is_ready for worker in gateway.router._workers)


def counted(gateway):
    """Calls of production; copies sent, failed and dropped."""
    main, shadow = gateway.registry.variant("echo", "main"), gateway.shadow_counters
    return main.invocations, shadow.invocations, shadow.model_errors, shadow.dropped


def backlog(gateway):
    mirror = gateway.router._mirrors["echo"]
    return mirror.copies, mirror.body_bytes


def test_copies_count_under_the_name_of_the_shadow(shadowed):
    for n in range(5):
        assert invoke(shadowed)[0] == 200
        wait_for(lambda n=n: counted(shadowed) == (n + 1, n + 1, 0, 0), "the copy")
        wait_for(lambda: backlog(shadowed) == (0, 0), "its answer")
    assert shadowed.registry.variant("echo", "main").model_errors == 0


def test_failures_of_copies_are_counted_and_told_to_nobody(make_gateway, make_worker):
    gateway = make_gateway()
    raising = HANDLER.replace('elif content_type == "test/raise":', "elif True:")
    publish(gateway, a_variant("main", make_worker()), a_variant("shadow", make_worker(raising)))
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    assert invoke(gateway, b"x")[0::2] == (200, b"x")
    wait_for(lambda: gateway.registry.variant("echo", "shadow").model_errors == 1, "the failure")
    assert gateway.registry.variant("echo", "main").model_errors == 0


@pytest.mark.parametrize("content_type", ["text/plain", "test/large"])
def test_a_copy_that_is_captured_is_measured_once(make_gateway, make_worker, content_type):
    gateway = make_gateway()
    capture = DataCapture(share=1.0, destination="s3://b", takes_input=True, takes_output=True)
    main, shadow = a_variant("main", make_worker()), a_variant("shadow", make_worker())
    publish(gateway, main, shadow, capture)
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    assert invoke(gateway, b"3000000", content_type)[0] == 200
    counters = gateway.registry.variant("echo", "shadow")

    def times():
        counters.fold()
        return counters.model.count

    wait_for(lambda: counters.invocations == 1 and backlog(gateway) == (0, 0), "the copy")
    assert times() == 1


def test_a_shadow_that_lags_gets_no_more_copies_than_it_has_room_for(make_gateway, make_worker):
    gateway = make_gateway(router={"shadow_max_outstanding": 2})
    hanging = f"{HANDLER}\ndef transform_fn(m, data, content_type, accept): time.sleep(100)\n"
    publish(gateway, a_variant("main", make_worker()), a_variant("shadow", make_worker(hanging)))
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    for _ in range(10):
        assert invoke(gateway, b"x")[0::2] == (200, b"x")
    counters = gateway.registry.variant("echo", "shadow")
    wait_for(lambda: counters.invocations + counters.dropped == 10, "the decisions")
    assert (counters.invocations, counters.dropped) == (2, 8)
    # Another weight, the same backlog.
    route = gateway.router._endpoints["echo"].route
    publish(gateway, route.variants[0], a_variant("shadow", weight=0.5))
    assert backlog(gateway)[0] == 2


def test_bodies_of_copies_have_a_limit_in_bytes(shadowed):
    assert invoke(shadowed, b"x" * 100_001)[0] == 200
    wait_for(lambda: counted(shadowed) == (1, 0, 0, 1), "the drop")
    assert invoke(shadowed, b"x" * 100_000)[0] == 200
    wait_for(lambda: counted(shadowed) == (2, 1, 0, 1), "the copy")


def test_bodies_that_are_passed_on_as_they_come_are_not_copied(make_gateway, make_worker):
    gateway = make_gateway()
    publish(gateway, a_variant("main", make_worker()), a_variant("shadow", make_worker()))
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    body = b"x" * 300_000
    assert invoke(gateway, body)[2] == body
    assert invoke(gateway, b"x")[2] == b"x"
    shadow = gateway.registry.variant("echo", "shadow")
    wait_for(lambda: shadow.invocations == 1, "the copy of the small one")
    assert shadow.dropped == 0


def test_copies_that_a_dead_shadow_did_not_start_reach_nobody(shadowed):
    shadowed.shadow_worker.kill()
    wait_for(lambda: not channels_are_ready(shadowed), "the loss")
    assert invoke(shadowed, b"x")[0] == 200
    wait_for(lambda: counted(shadowed) == (1, 0, 0, 1), "the drop")
    shadowed.shadow_worker.start()
    wait_for(lambda: channels_are_ready(shadowed), "the new worker")
    assert invoke(shadowed, b"x")[0] == 200
    wait_for(lambda: counted(shadowed) == (2, 1, 0, 1), "the copy")


def test_an_instance_drains_until_its_calls_are_done(make_gateway, make_worker):
    gateway = make_gateway()
    gateway.route("echo", make_worker().address)
    assert invoke(gateway)[0] == 200
    with gateway.connect() as client:
        client.post("/endpoints/echo/invocations", b"1", [("Content-Type", "test/sleep")])
        wait_for(lambda: gateway.registry.variant("echo", "AllTraffic").invocations == 2, "it")
        assert gateway.router.draining() == []
        gateway.route("echo")
        assert gateway.router.draining() == ["i-0"]
        assert client.read()[0] == 200
    wait_for(lambda: gateway.router.draining() == [], "the end")


def opened(gateway):
    status, headers, _ = invoke(gateway, b"{}", headers=[(SESSION_ID, "NEW_SESSION")])
    assert status == 200
    session, _, expires = headers["x-amzn-sagemaker-new-session-id"].partition("; ")
    assert expires == "Expires=2100-01-01T00:00:00Z"
    return session


def in_session(gateway, session, body=b"{}"):
    """Return the body and the session id that the container saw, or the error."""
    status, headers, answer = invoke(gateway, body, headers=[(SESSION_ID, session)])
    if status == 200:
        return answer, headers["content-type"]
    return status, json.loads(answer)["Message"]


def test_any_gateway_finds_the_place_of_a_session(make_gateway, make_worker):
    workers = [make_worker(SESSIONS) for _ in range(3)]
    gateways = [make_gateway() for _ in range(2)]
    for gateway in gateways:
        publish(gateway, a_variant("main", *workers))
    session = opened(gateways[0])
    for n in range(6):
        assert in_session(gateways[n % 2], session) == (str(n + 1).encode(), "mine")
    # One that was started just now has no connections yet: the call waits for them.
    late = make_gateway()
    publish(late, a_variant("main", *workers))
    assert in_session(late, session) == (b"7", "mine")


def test_a_session_is_gone_with_its_worker_and_with_its_instance(make_gateway, make_worker):
    gateway = make_gateway()
    worker = make_worker(SESSIONS)
    publish(gateway, a_variant("main", worker))
    session = opened(gateway)
    worker.kill()
    worker.start()
    for _ in range(2):
        status, message = in_session(gateway, session)
        assert status == 400
        assert f"Session {session} is gone" in message

    session = opened(gateway)
    publish(gateway, a_variant("other", make_worker(SESSIONS)))
    status, message = in_session(gateway, session)
    assert (status, f"Session {session} is gone" in message) == (400, True)


def test_the_gateway_that_closed_a_session_refuses_it(make_gateway, make_worker):
    gateway = make_gateway()
    publish(gateway, a_variant("main", make_worker(SESSIONS)))
    session = opened(gateway)
    _, headers, _ = invoke(gateway, b"close", headers=[(SESSION_ID, session)])
    assert headers["x-amzn-sagemaker-closed-session-id"] == session
    status, message = in_session(gateway, session)
    assert (status, "was closed" in message) == (400, True)


def test_calls_of_sessions_are_not_copied(make_gateway, make_worker):
    gateway = make_gateway()
    publish(gateway, a_variant("main", make_worker(SESSIONS)), a_variant("shadow", make_worker()))
    wait_for(lambda: channels_are_ready(gateway), "the connections")
    assert in_session(gateway, opened(gateway)) == (b"1", "mine")
    shadow = gateway.registry.variant("echo", "shadow")
    assert (shadow.invocations, shadow.dropped) == (0, 0)
