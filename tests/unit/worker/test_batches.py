"""Handlers that answer several requests in one call, without a server around them."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clary.messages import encode_meta
from clary.worker.batcher import Batching
from clary.worker.handlers.base import HandlerFailed
from clary.worker.handlers.batches import SAMPLE, BatchingHandler, with_batches_of_one
from clary.worker.handlers.context import SystemProperties
from clary.worker.handlers.functions import FunctionsHandler
from clary.worker.handlers.module import check_batching, find_batch_functions, find_functions

Answer = tuple[int, str, bytes]


class Double:
    """A model that doubles, and remembers how many rows it was given with each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, data: Any) -> Any:
        self.calls.append(len(data))
        return data * 2


def a_handler(model: Any = None, **functions: Any) -> BatchingHandler:
    """A handler of functions, for batches of up to 8."""
    module: Any = SimpleNamespace(**functions)
    found = find_functions(module)
    check_batching(found)
    return BatchingHandler(
        found,
        find_batch_functions(module),
        model,
        SystemProperties(model_dir="/m"),
        Batching(8),
        default_accept="application/json",
    )


def request(body: str, **headers: str) -> tuple[bytes, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return encode_meta({"content-type": "application/json", **named}), body.encode()


def answer(handler: BatchingHandler, *requests: tuple[bytes, bytes]) -> list[Answer]:
    """The answers in the order of their requests; asserts that each has exactly one."""
    answers: dict[int, Answer] = {}
    for step in handler.invoke_batch(requests, lambda index: True):
        assert step
        for place, (status, meta, body) in step:
            assert place not in answers
            assert isinstance(body, bytes)
            answers[place] = (status, json.loads(meta)["content-type"], body)
    assert sorted(answers) == list(range(len(requests)))
    return [answers[place] for place in sorted(answers)]


def bodies(answers: list[Answer]) -> list[Any]:
    assert {status for status, _, _ in answers} == {200}, answers
    return [json.loads(body) for _, _, body in answers]


def a_checked_handler(model: Any, **functions: Any) -> BatchingHandler:
    handler = a_handler(model, **functions)
    answer(handler, request("[[1, 1]]"), request("[[2, 2]]"))
    assert handler.is_checked
    assert handler.is_batching
    model.calls.clear()
    return handler


def test_requests_that_stack_share_one_call() -> None:
    model = Double()
    handler = a_checked_handler(model)
    requests = [request("[[1, 2]]"), request("[[3, 4], [5, 6]]"), request("[[7, 8]]")]
    assert bodies(answer(handler, *requests)) == [[[2, 4]], [[6, 8], [10, 12]], [[14, 16]]]
    assert model.calls == [4]


def test_each_request_keeps_its_accept_and_its_type() -> None:
    model = Double()
    handler = a_checked_handler(model)
    answers = answer(
        handler,
        request("[[1, 2]]"),
        request("3,4\n5,6", content_type="text/csv", accept="text/csv"),
        request("[[7, 8]]", accept="application/jsonlines"),
    )
    assert answers == [
        (200, "application/json", b"[[2, 4]]"),
        (200, "text/csv", b"6,8\n10,12\n"),
        (200, "application/jsonlines", b"[14, 16]\n"),
    ]
    assert model.calls == [4]


def test_one_bad_request_never_fails_its_neighbours() -> None:
    model = Double()
    handler = a_checked_handler(model)
    answers = answer(
        handler,
        request("[[1, 2]]"),
        request("{"),
        request("[[1, 2]]", accept="image/png"),
        request("x", content_type="image/png"),
        request("[[3, 4]]"),
    )
    assert [status for status, _, _ in answers] == [200, 500, 406, 415, 200]
    assert b"JSONDecodeError" in answers[1][2]
    assert model.calls == [3]


def test_what_does_not_stack_is_called_on_its_own() -> None:
    model = Double()
    handler = a_checked_handler(model)
    requests = [request(body) for body in ("[1, 2]", "[[1, 2]]", "[3, 4]", "[[3, 4]]", "[[5]]")]
    answers = bodies(answer(handler, *requests))
    assert answers == [[2, 4], [[2, 4]], [6, 8], [[6, 8]], [[10]]]
    assert sorted(model.calls) == [1, 2, 2, 2]


def test_a_call_that_fails_is_repeated_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def predict_fn(data: Any, model: Any) -> Any:
        calls.append(len(data))
        if (data < 0).any():
            raise ValueError("negative flower")
        return data

    handler = a_handler(predict_fn=predict_fn)
    answer(handler, request("[[1]]"), request("[[2]]"))
    calls.clear()
    requests = [request("[[1]]"), request("[[-1]]"), request("[[3]]")]
    for _ in range(3):
        answers = answer(handler, *requests)
        assert [status for status, _, _ in answers] == [200, 500, 200]
        assert answers[1][2].startswith(b"negative flower\nTraceback")
        assert answers[2][2] == b"[[3]]"
    assert calls == [3, 1, 1, 1] * 3
    assert handler.is_batching
    lines = [line for line in capsys.readouterr().err.splitlines() if "a batch of" in line]
    assert lines == [
        "clary-worker: a batch of 3 requests failed, so each is called on its own: "
        "ValueError: negative flower"
    ]


def test_inputs_that_a_failed_call_has_changed_are_read_anew() -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        rows = len(data)
        for row in data:
            row.append(0)
        if rows == 3:
            raise ValueError("three are too many")
        return [len(row) for row in data]

    handler = a_handler(predict_fn=predict_fn, input_fn=lambda data, kind: json.loads(data))
    handler.is_checked = True
    assert bodies(answer(handler, *[request("[[1]]")] * 3)) == [[2], [2], [2]]


def test_a_wrong_length_costs_nothing_but_the_batching(capsys: pytest.CaptureFixture[str]) -> None:
    handler = a_handler(predict_fn=lambda data, model: [float(data.sum())])
    assert bodies(answer(handler, *[request(f"[[{i}]]") for i in range(6)])) == [
        [float(i)] for i in range(6)
    ]
    assert not handler.is_batching
    log = capsys.readouterr().err
    assert "a batch of 4 requests failed" in log
    assert "the input had 4 rows, but the prediction has 1" in log
    assert "batching is off" in log


def test_a_wrong_length_now_and_then_is_answered_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Double()
    handler = a_checked_handler(model, predict_fn=lambda data, model: model(data)[data[:, 0] < 100])
    requests = [request("[[1, 2]]"), request("[[100, 2]]"), request("[[3, 4]]")]
    assert bodies(answer(handler, *requests)) == [[[2, 4]], [], [[6, 8]]]
    assert handler.is_batching
    assert "the input had 3 rows, but the prediction has 2" in capsys.readouterr().err


def test_a_model_whose_rows_depend_on_each_other_is_found_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = a_handler(predict_fn=lambda data, model: data - data.mean(axis=0))
    requests = [request("[[1.0], [3.0]]"), request("[[10.0], [20.0]]")]
    for _ in range(2):
        assert bodies(answer(handler, *requests)) == [[[-1.0], [1.0]], [[-5.0], [5.0]]]
    assert not handler.is_batching
    log = capsys.readouterr().err
    assert log.count("batching is off: the predictions of a batch differ") == 1


def test_the_check_costs_a_few_calls_once() -> None:
    model = Double()
    handler = a_handler(model)
    requests = [request(f"[[{i}]]") for i in range(8)]
    assert bodies(answer(handler, *requests)) == [[[2 * i]] for i in range(8)]
    assert model.calls == [SAMPLE, *[1] * SAMPLE, 8 - SAMPLE]
    answer(handler, *requests)
    assert model.calls[SAMPLE + 2 :] == [8]


def test_a_failure_proves_nothing_about_batching() -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        if (data < 0).any():
            raise ValueError("negative")
        return data

    handler = a_handler(predict_fn=predict_fn)
    answer(handler, request("[[1]]"), request("[[-1]]"))
    assert handler.is_batching
    assert not handler.is_checked


class Odd:
    """A prediction that cannot be compared, and an error that cannot be printed."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def tolist(self) -> list[int]:
        return [1]

    __hash__ = None  # type: ignore[assignment]


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def test_predictions_that_cannot_be_compared_end_the_batching() -> None:
    handler = a_handler(predict_fn=lambda data, model: [Odd() for _ in data])
    assert bodies(answer(handler, request("[[1]]"), request("[[2]]"))) == [[[1]], [[1]]]
    assert not handler.is_batching


def test_an_error_that_cannot_be_printed_is_answered_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        raise Speechless

    answers = answer(a_handler(predict_fn=predict_fn), request("[[1]]"), request("[[2]]"))
    assert [status for status, _, _ in answers] == [500, 500]
    assert "Speechless" in capsys.readouterr().err


def test_a_model_that_works_in_company_only_proves_nothing() -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        if len(data) < 2:
            raise ValueError("lonely")
        return data

    handler = a_handler(predict_fn=predict_fn)
    answer(handler, request("[[1]]"), request("[[2]]"))
    assert handler.is_batching
    assert not handler.is_checked


def test_the_users_own_functions_make_and_split_batches() -> None:
    calls = []

    def predict_fn(data: Any, model: Any) -> Any:
        calls.append(data)
        return {"joined": "|".join(data)}

    handler = a_handler(
        input_fn=lambda data, kind: json.loads(data)["text"],
        batch_fn=lambda inputs: [text.upper() for text in inputs],
        predict_fn=predict_fn,
        unbatch_fn=lambda prediction, count: prediction["joined"].split("|")[:count],
        output_fn=lambda prediction, accept: json.dumps(prediction),
    )
    assert handler.is_checked
    requests = [request('{"text": "a"}'), request("{"), request('{"text": "b"}')]
    answers = answer(handler, *requests)
    assert [answers[0][2], answers[2][2]] == [b'"A"', b'"B"']
    assert answers[1][0] == 500
    assert calls == [["A", "B"]]


@pytest.mark.parametrize(
    ("unbatched", "text"),
    [
        (lambda p, count: p[:2], "returned 2 predictions for 3 requests"),
        (lambda p, count: p if count == 1 else 3, "returned int, not a list"),
        (lambda p, count: p if count == 1 else 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_batch_that_cannot_be_split_is_answered_one_by_one(
    unbatched: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = a_handler(
        input_fn=lambda data, kind: json.loads(data),
        batch_fn=list,
        predict_fn=lambda data, model: data,
        unbatch_fn=unbatched,
    )
    for _ in range(2):
        assert bodies(answer(handler, *[request(str(i)) for i in range(3)])) == [0, 1, 2]
    assert handler.is_batching
    assert capsys.readouterr().err.count(text) == 1


def test_predict_fn_sees_the_headers_of_each_request_of_its_batch() -> None:
    def predict_fn(data: Any, model: Any, context: Any) -> Any:
        for place in range(len(data)):
            context.set_response_header(place, "x-place", str(place))
        context.set_response_status(201, idx=1)
        return [context.get_request_header(place, "X-Name") for place in range(len(data))]

    handler = a_handler(
        input_fn=lambda data, kind: data,
        batch_fn=list,
        predict_fn=predict_fn,
        unbatch_fn=lambda prediction, count: prediction,
    )
    requests = [request("1", x_name="ada"), request("2", x_name="bob")]
    steps = [*handler.invoke_batch(requests, lambda index: True)]
    replies = [reply for step in steps for _, reply in step]
    assert [status for status, _, _ in replies] == [200, 201]
    assert [json.loads(meta)["x-place"] for _, meta, _ in replies] == ["0", "1"]
    assert [body for _, _, body in replies] == [b'"ada"', b'"bob"']


class Joined:
    """Functions whose predict_fn understands nothing but batches."""

    batch_fn = staticmethod("|".join)
    input_fn = staticmethod(lambda data, kind: json.loads(data))
    unbatch_fn = staticmethod(lambda prediction, count: prediction.split("|"))

    @staticmethod
    def predict_fn(batch: str, model: Any) -> str:
        return batch.upper()


async def shout(batch: str, model: Any) -> str:
    return batch.upper()


@pytest.mark.parametrize("predict_fn", [Joined.predict_fn, shout])
def test_a_single_request_is_a_batch_of_one_also_where_batching_is_off(predict_fn: Any) -> None:
    module: Any = SimpleNamespace(**{**vars(Joined), "predict_fn": predict_fn})
    functions = with_batches_of_one(find_functions(module), find_batch_functions(module))
    handler = FunctionsHandler(
        functions, None, SystemProperties(), default_accept="application/json"
    )
    if handler.is_async:
        status, _, body = asyncio.run(handler.invoke_async(*request('"ada"')))
    else:
        status, _, body = handler.invoke(*request('"ada"'))
    assert (status, body) == (200, b'"ADA"')


def test_a_single_request_is_a_batch_of_one_where_batching_is_on() -> None:
    functions = {name: getattr(Joined, name) for name in vars(Joined) if name.endswith("_fn")}
    handler = a_handler(**functions)
    assert handler.invoke(*request('"ada"'))[2] == b'"ADA"'
    assert bodies(answer(handler, request('"ada"'), request('"bob"'))) == ["ADA", "BOB"]


def test_transform_fn_gets_the_bodies_of_one_content_type_and_accept() -> None:
    calls = []

    def transform_fn(model: Any, data: Any, content_type: str, accept: str) -> Any:
        calls.append((data, content_type, accept))
        return data

    handler = a_handler(
        transform_fn=transform_fn,
        batch_fn=list,
        unbatch_fn=lambda prediction, count: [(text, "text/plain") for text in prediction],
    )
    answers = answer(
        handler, request("1"), request("2", accept="text/csv"), request("3"), request("4")
    )
    assert answers == [(200, "text/plain", str(i).encode()) for i in (1, 2, 3, 4)]
    assert (["1", "3", "4"], "application/json", "application/json") in calls
    assert (["2"], "application/json", "text/csv") in calls


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        ({"transform_fn": lambda m, d, c, a: d}, "transform_fn keeps its input to itself"),
        ({"predict_fn": lambda d, m, context: d}, "predict_fn takes the context"),
    ],
)
def test_what_cannot_be_stacked_safely_is_not_batched(
    functions: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not a_handler(**functions).is_batching
    assert f"batching is off: {text}" in capsys.readouterr().err


async def coroutine(data: Any, other: Any) -> Any:
    return data


async def async_generator(data: Any, other: Any) -> Any:
    yield data


def generator(data: Any, model: Any) -> Any:
    yield data


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        ({"predict_fn": coroutine}, "predict_fn is asynchronous"),
        ({"output_fn": async_generator}, "output_fn is asynchronous"),
        ({"predict_fn": generator}, "predict_fn is a generator"),
        ({"batch_fn": coroutine, "unbatch_fn": coroutine}, "batch_fn takes 2 arguments"),
        ({"batch_fn": lambda inputs: inputs, "unbatch_fn": coroutine}, "must be a plain function"),
        (
            {"batch_fn": lambda a, b: a, "unbatch_fn": lambda a, b: a},
            "batch_fn takes 2 arguments but 1 were given",
        ),
    ],
)
def test_a_handler_that_cannot_be_batched_does_not_load(
    functions: dict[str, Any], text: str
) -> None:
    with pytest.raises(HandlerFailed, match=text):
        a_handler(**functions)


def test_answers_that_nobody_wants_are_not_made() -> None:
    model = Double()
    handler = a_checked_handler(model)
    unwanted = {0}
    requests = [request(f"[[{i}, 0]]") for i in range(3)]
    steps = [*handler.invoke_batch(requests, lambda index: index not in unwanted)]
    assert sorted(place for step in steps for place, _ in step) == [1, 2]
    assert model.calls == [2]


def test_other_paths_than_invocations_are_answered_too() -> None:
    handler = a_handler(Double(), execution_parameters_fn=lambda: {"MaxConcurrentTransforms": 8})
    meta = encode_meta({":path": "/execution-parameters"})
    answers = answer(handler, (meta, b""), request("[[1]]"), request("[[2]]"))
    assert b"MaxConcurrentTransforms" in answers[0][2]
    assert answers[2][2] == b"[[4]]"


def test_several_outputs_are_split_each() -> None:
    def predict_fn(data: Any, model: Any) -> Any:
        return {"label": data.argmax(axis=1), "score": np.max(data, axis=1).tolist()}

    handler = a_handler(predict_fn=predict_fn)
    for _ in range(2):
        assert bodies(answer(handler, request("[[1, 3]]"), request("[[9, 4], [0, 1]]"))) == [
            {"label": [1], "score": [3]},
            {"label": [0, 1], "score": [9, 1]},
        ]
