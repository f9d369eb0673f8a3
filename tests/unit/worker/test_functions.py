import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from clary.messages import encode_meta
from clary.worker.handlers.base import HandlerFailed
from clary.worker.handlers.context import SystemProperties
from clary.worker.handlers.functions import FunctionsHandler
from clary.worker.handlers.module import find_functions


def a_handler(model: Any = None, **options: Any) -> FunctionsHandler:
    """A handler of the functions among ``options``."""
    functions = {name: options.pop(name) for name in list(options) if name.endswith("_fn")}
    found = find_functions(SimpleNamespace(**functions))  # type: ignore[arg-type]
    options.setdefault("default_accept", "application/json")
    return FunctionsHandler(found, model, SystemProperties(model_dir="/m"), **options)


def invoke(
    handler: FunctionsHandler, body: bytes = b"[1, 2]", **headers: str
) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    meta = encode_meta(named)
    if handler.is_async:
        status, reply_meta, reply = asyncio.run(handler.invoke_async(meta, body))
    else:
        status, reply_meta, reply = handler.invoke(meta, body)
    return status, json.loads(reply_meta)["content-type"], reply


def pass_on(data: Any, other: Any) -> Any:
    return data


def test_without_functions_the_model_predicts_between_default_codecs() -> None:
    model = SimpleNamespace(predict=lambda data: data * 2)
    assert invoke(a_handler(model)) == (200, "application/json", b"[2, 4]")


def test_a_model_may_be_a_function() -> None:
    assert invoke(a_handler(lambda data: data + 1))[2] == b"[2, 3]"


def test_a_model_that_cannot_predict_says_what_is_missing() -> None:
    status, _, body = invoke(a_handler(object()))
    assert status == 500
    assert b"Please provide a predict_fn implementation" in body


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", str),
        ("application/json; charset=utf-8", str),
        ("text/csv", str),
        ("text/plain", bytes),
        ("application/jsonlines", bytes),
        ("", str),
    ],
)
def test_bodies_are_text_for_json_and_csv_only(content_type: str, kind: type) -> None:
    seen: list[tuple[type, str]] = []

    def input_fn(data: Any, content_type: str) -> int:
        seen.append((type(data), content_type))
        return 1

    invoke(a_handler(input_fn=input_fn, predict_fn=pass_on), content_type=content_type)
    assert seen == [(kind, content_type.partition(";")[0] or "application/json")]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        pytest.param("text", ("application/json", b"text"), id="str"),
        pytest.param(b"raw", ("application/json", b"raw"), id="bytes"),
        pytest.param(bytearray(b"raw"), ("application/json", b"raw"), id="bytearray"),
        pytest.param(memoryview(b"raw"), ("application/json", b"raw"), id="memoryview"),
        pytest.param(("a,b", "text/csv"), ("text/csv", b"a,b"), id="pair"),
        pytest.param({"a": 1}, ("application/json", b'{"a": 1}'), id="object"),
        pytest.param(None, ("application/json", b"null"), id="nothing"),
    ],
)
def test_what_output_fn_returns_becomes_the_reply(returned: Any, expected: Any) -> None:
    handler = a_handler(
        input_fn=pass_on, predict_fn=pass_on, output_fn=lambda prediction, accept: returned
    )
    assert invoke(handler)[1:] == expected


def test_the_accept_variable_is_the_default() -> None:
    handler = a_handler(predict_fn=pass_on, default_accept="text/csv")
    assert invoke(handler, accept="*/*") == (200, "text/csv", b"1\n2\n")
    assert invoke(handler, accept="application/json")[1] == "application/json"


def test_unsupported_types_are_500_under_the_switch() -> None:
    handler = a_handler(predict_fn=pass_on, unsupported_is_500=True)
    assert invoke(handler, content_type="image/png")[0] == 500
    assert invoke(handler, accept="image/png")[0] == 500


def test_tracebacks_begin_in_the_users_code() -> None:
    def predict_fn(data: Any, model: Any) -> None:
        raise ValueError("no such flower")

    _, kind, body = invoke(a_handler(predict_fn=predict_fn))
    assert kind.startswith("text/plain")
    lines = body.decode().splitlines()
    assert lines[0] == "no such flower"
    assert "in predict_fn" in lines[2]


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def status_of_no_reply(data: Any, model: Any, context: Any) -> None:
    context.set_response_status(70_000)


def headers_without_end(data: Any, model: Any, context: Any) -> None:
    context.set_response_header(0, "x-large", "x" * 100_000)


def an_error_without_words(data: Any, model: Any) -> None:
    raise Unspeakable


@pytest.mark.parametrize(
    "predict_fn", [status_of_no_reply, headers_without_end, an_error_without_words]
)
def test_what_no_frame_could_carry_is_a_failure_of_that_request(predict_fn: Any) -> None:
    status, _, body = invoke(a_handler(predict_fn=predict_fn))
    assert status == 500
    assert len(body) < 5000


def test_a_meta_block_that_is_no_json_is_the_clients_fault() -> None:
    status, _, _ = a_handler(predict_fn=pass_on).invoke(b"{", b"")
    assert status == 400


def test_an_asynchronous_default_chain_mixes_both_kinds() -> None:
    async def output_fn(prediction: Any, accept: str, context: Any) -> str:
        context.set_response_content_type(0, "text/plain")
        return f"{prediction.tolist()}"

    handler = a_handler(predict_fn=pass_on, output_fn=output_fn)
    assert handler.is_async
    assert invoke(handler) == (200, "text/plain", b"[1, 2]")


def test_an_asynchronous_transform_with_context() -> None:
    async def transform_fn(model: Any, data: Any, content: str, accept: str, context: Any) -> str:
        return f"{data} {context.get_request_header(0, 'Content-Type')}"

    handler = a_handler(transform_fn=transform_fn)
    assert invoke(handler, content_type="text/csv; header=no")[2] == b"[1, 2] text/csv; header=no"


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        pytest.param(
            {"predict_fn": lambda data: 1}, "predict_fn takes 1 arguments but 2", id="few"
        ),
        pytest.param(
            {"input_fn": lambda a, b, c, d: 1}, "input_fn takes 4 arguments but 2", id="many"
        ),
        pytest.param(
            {"execution_parameters_fn": lambda context: 1},
            "execution_parameters_fn takes 1 arguments but 0",
            id="no-context-there",
        ),
        pytest.param(
            {"transform_fn": lambda a, b, c, d: 1, "predict_fn": pass_on},
            "Cannot use transform_fn implementation in conjunction",
            id="transform-and-predict",
        ),
    ],
)
def test_functions_that_cannot_be_called_do_not_load(
    functions: dict[str, Any], message: str
) -> None:
    with pytest.raises(HandlerFailed, match=message) as caught:
        a_handler(**functions)
    assert caught.value.is_final


def test_arguments_are_counted_as_they_will_be_given() -> None:
    def plain(model: Any, data: Any, *types: str) -> Any:
        return model, data, types

    def with_context(model: Any, data: Any, content: str, accept: str, context: Any, *more: Any):
        return context

    def wrapped(*arguments: Any, **options: Any) -> Any:
        return arguments, options

    def named(model: Any, data: Any, content: str, accept: str, *, limit: int = 3, **rest: Any):
        return limit

    takes = {
        function: find_functions(SimpleNamespace(transform_fn=function))  # type: ignore[arg-type]
        for function in (plain, with_context, wrapped, named)
    }
    assert {f.__name__: found["transform_fn"].takes_context for f, found in takes.items()} == {
        "plain": False,
        "with_context": True,
        "wrapped": False,
        "named": False,
    }
    status, content_type, body = invoke(
        a_handler(transform_fn=lambda model, data, *types: (",".join(types), "text/plain"))
    )
    assert (status, content_type, body.split(b",")[0]) == (200, "text/plain", b"application/json")
    with pytest.raises(HandlerFailed, match="transform_fn takes 6 arguments but 4"):
        a_handler(transform_fn=lambda a, b, c, d, e, f, *g: 1)


def test_values_that_are_no_functions_are_not_taken_for_them() -> None:
    assert find_functions(SimpleNamespace(predict_fn=3)) == {}  # type: ignore[arg-type]
    assert find_functions(None) == {}
