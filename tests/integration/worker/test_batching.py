"""Batches of a real worker: what is in them, and what they leave alone."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clary.messages import CANCEL, INVOKE, PING, PONG, encode_frame, encode_meta
from instances import Client, Instance, an_instance, wait_for

pytest.importorskip("numpy")

RECORDING = """
import json, os, time
def model_fn(model_dir):
    return model_dir + "/calls"

def predict_fn(data, model):
    with open(model, "a") as file:
        print(len(data), file=file)
    if (data < 0).any():
        raise ValueError("negative flower")
    if (data > 99).any():
        os.kill(os.getpid(), 9)
    time.sleep(data[:, 0].max() / 10)
    return data * 2
"""
"""The first number of a row is how long the call takes, in tenths of a second."""

ON = {"MODEL_MAX_BATCH_SIZE": "8", "MODEL_MAX_BATCH_DELAY_MS": "50"}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with an_instance(tmp_path) as instance:
        yield instance


def calls(instance: Instance) -> list[int]:
    file = instance.directory / "model/calls"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def frames(rows: list[Any], first_id: int = 1000, time_left_ms: int = 60_000) -> bytes:
    """Invocations that arrive together."""
    meta = encode_meta({"content-type": "application/json"})
    return b"".join(
        encode_frame(
            INVOKE, first_id + i, number=time_left_ms, meta=meta, body=json.dumps(row).encode()
        )
        for i, row in enumerate(rows)
    )


def replies(client: Client, count: int) -> dict[int, tuple[int, bytes]]:
    found = {}
    for _ in range(count):
        request_id, status, _, body = client.reply()
        assert request_id not in found
        found[request_id] = (status, body)
    return found


def ready(instance: Instance, code: str = RECORDING, **options: Any) -> Client:
    """A worker whose batches have been checked."""
    client = instance.ready(code, environment=ON, **options)
    client.send(frames([[[0, 1]], [[0, 2]]], first_id=500))
    assert {body for _, body in replies(client, 2).values()} == {b"[[0, 2]]", b"[[0, 4]]"}
    (instance.directory / "model/calls").unlink()
    return client


def test_what_waits_together_is_answered_by_one_call(instance: Instance) -> None:
    client = ready(instance)
    assert client.hello.number == 8
    rows = [[[0, i]] for i in range(20)]
    client.send(frames(rows))
    found = replies(client, 20)
    assert found == {1000 + i: (200, json.dumps([[0, 2 * i]]).encode()) for i in range(20)}
    assert calls(instance) == [8, 8, 4]


def test_all_of_a_batch_that_ends_the_worker_was_begun_and_nothing_after_it(
    instance: Instance,
) -> None:
    client = ready(instance)
    page = client.page()
    client.send(frames([[[0, 100 if i == 2 else i]] for i in range(20)]))
    with pytest.raises(ConnectionError):
        client.reply()
    assert page.read().last_begun == 1007
    page.close()


def test_without_the_variables_nothing_is_batched(instance: Instance) -> None:
    client = instance.ready(RECORDING)
    assert client.hello.number == 1
    client.send(frames([[[0, 1]]] * 5))
    replies(client, 5)
    assert calls(instance) == [1] * 5


def test_the_toolkits_names_work_too(instance: Instance) -> None:
    client = instance.ready(RECORDING, environment={"SAGEMAKER_TS_BATCH_SIZE": "4"})
    assert client.hello.number == 4


@pytest.mark.parametrize(
    ("code", "environment", "reason"),
    [
        (RECORDING, {"MODEL_MAX_BATCH_SIZE": "lots"}, "MODEL_MAX_BATCH_SIZE is 'lots'"),
        (RECORDING.replace("def predict", "async def predict"), ON, "predict_fn is asynchronous"),
        (RECORDING + "    yield 1\n", ON, "predict_fn is a generator"),
    ],
)
def test_batching_that_is_impossible_fails_at_once_with_the_reason(
    instance: Instance, code: str, environment: dict[str, str], reason: str
) -> None:
    instance.start(code, environment=environment)
    status = instance.wait_for_state("failed")
    assert reason in status["reason"]
    assert status["containers"][0]["workers"][0]["starts"] == 1


def test_neighbours_of_a_bad_request_get_their_answers(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[0, 1]], [[-1, 0]], [[0, 3]], "nonsense"]))
    found = replies(client, 4)
    assert [found[1000 + i][0] for i in range(4)] == [200, 500, 200, 500]
    assert b"negative flower" in found[1001][1]
    assert calls(instance)[:4] == [3, 1, 1, 1]
    assert "each is called on its own: ValueError: negative flower" in instance.log()
    client.send(frames([[[0, 1]], [[0, 2]]]))
    assert {status for status, _ in replies(client, 2).values()} == {200}
    assert calls(instance)[-1] == 2


def test_a_lone_request_never_waits_for_company(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[0, 1]]] * 8))
    replies(client, 8)
    times = []
    for _ in range(20):
        time.sleep(0.06)  # idle, for longer than any wait
        start = time.monotonic()
        assert client.invoke("[[0, 5]]")[2] == b"[[0, 10]]"
        times.append(time.monotonic() - start)
    assert sorted(times)[10] < 0.01


def test_clients_that_come_back_together_stay_together(instance: Instance) -> None:
    client = ready(instance)
    rounds = 20
    for number in range(rounds):
        # One is there first; the others come a little later, as they do through a gateway.
        client.send(frames([[[0.1, 0]]], first_id=10 * number))
        time.sleep(0.001)
        client.send(frames([[[0.1, i]] for i in range(7)], first_id=10 * number + 1))
        replies(client, 8)
    assert calls(instance).count(8) > rounds // 2


def test_the_time_of_a_batch_is_shared_among_its_requests(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[1, i]] for i in range(4)]))
    shares_us = [client.frame().number for _ in range(4)]
    assert all(20_000 < share < 60_000 for share in shares_us)


def test_what_nobody_waits_for_is_in_no_batch(instance: Instance) -> None:
    client = ready(instance)
    other = instance.client()
    client.send(frames([[[3, 0]]], first_id=1))
    wait_for(lambda: calls(instance) == [1], "the first call")
    other.send(frames([[[0, 1]]] * 2))
    other.close()
    client.send(frames([[[0, i]] for i in range(3)], first_id=10) + encode_frame(CANCEL, 11))
    assert set(replies(client, 3)) == {1, 10, 12}
    client.send(frames([[[0, 0]]], first_id=30))
    assert set(replies(client, 1)) == {30}
    assert sum(calls(instance)) in (4, 6)  # 6: that the connection is lost was seen a turn later


def test_a_request_that_is_too_late_is_not_called_again(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[-1, 0]], [[2, 0]], [[0, 0]]], time_left_ms=100))
    assert set(replies(client, 2)) == {1000, 1001}
    client.send(frames([[[0, 0]]], first_id=30))
    assert set(replies(client, 1)) == {30}
    assert calls(instance) == [3, 1, 1, 1]


def test_pings_are_answered_between_batches_and_retried_requests(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[1, 0]], [[-1, 0]], [[1, 0]]]))
    client.send(encode_frame(PING, number=7))
    kinds = [client.frame().kind for _ in range(4)]
    assert PONG in kinds[:3]


def test_single_calls_after_a_failed_batch_are_not_taken_for_one_that_hangs(
    instance: Instance,
) -> None:
    client = ready(instance, invocation_timeout_s=0.6, hung_grace_s=0.4)
    client.send(frames([[[3, 0]], [[3, 0]], [[3, 0]], [[3, 0]], [[3, 0]], [[-1, 0]]]))
    found = replies(client, 6)
    assert sorted(status for status, _ in found.values()) == [200] * 5 + [500]
    instance.status()
    assert instance.workers()[0]["starts"] == 1


def test_a_batch_that_hangs_is_replaced(instance: Instance) -> None:
    client = ready(instance, invocation_timeout_s=0.5, hung_grace_s=0.5)
    client.send(frames([[[90, 0]], [[90, 0]]]))
    instance.wait_for_restart()
    assert "had been hanging in one call" in instance.log()
    assert "in predict_fn" in instance.log()


def test_a_stopping_worker_answers_what_it_has(instance: Instance) -> None:
    client = ready(instance)
    client.send(frames([[[1, i]] for i in range(12)]))
    wait_for(lambda: calls(instance) == [8], "the first call")
    os.kill(instance.workers()[0]["pid"], signal.SIGTERM)
    assert {status for status, _ in replies(client, 12).values()} == {200}
    with pytest.raises(ConnectionError):
        client.frame()


def test_a_model_whose_rows_are_not_independent_goes_on_without_batches(
    instance: Instance,
) -> None:
    code = """
def model_fn(model_dir): return None
def predict_fn(data, model): return data / data.sum()
"""
    client = instance.ready(code, environment=ON)
    for _ in range(2):
        client.send(frames([[[1.0, 3.0]], [[1.0, 1.0]], [[1.0, 0.0]]]))
        found = replies(client, 3)
        assert [found[1000 + i][1] for i in range(3)] == [
            b"[[0.25, 0.75]]",
            b"[[0.5, 0.5]]",
            b"[[1.0, 0.0]]",
        ]
    assert instance.log().count("batching is off") == 1


def test_large_bodies_and_large_replies_are_batched_too(instance: Instance) -> None:
    code = """
def model_fn(model_dir): return None
def input_fn(data, content_type): return data
def batch_fn(inputs): return inputs
def predict_fn(batch, model): return batch
def unbatch_fn(prediction, count): return prediction
def output_fn(prediction, accept): return prediction, "application/octet-stream"
"""
    client = instance.ready(code, environment=ON)
    body = bytes(range(256)) * 4000
    ids = [client.submit(body, content_type="application/octet-stream") for _ in range(2)]
    for request_id in ids:
        answered, status, _, reply = client.reply()
        assert (answered, status) == (request_id, 200)
        assert reply == body
