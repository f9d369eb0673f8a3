"""The handler style of ``inference.py``: model_fn, input_fn, predict_fn, output_fn, transform_fn.

``FunctionsHandler`` builds one chain of calls from the user's functions and the defaults for those
that are missing; a request then only runs down the chain. What a request's headers mean is worked
out once for each meta block and remembered, for nearly all requests of an endpoint carry the same
one.
"""

import inspect
import sys
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from clary.messages import MAX_META, MetaCache, ProtocolError
from clary.worker import codecs
from clary.worker.handlers.base import Reply
from clary.worker.handlers.context import Context, SystemProperties
from clary.worker.handlers.module import UserFunction
from clary.worker.handlers.traces import format_trace
from clary.worker.negotiation import choose, media_type
from clary.worker.streams import GENERATORS, Stream

EXECUTION_PARAMETERS = "/execution-parameters"
INVOCATIONS = "/invocations"
PLANS = 1024
TEXT_ERROR = "text/plain; charset=utf-8"

AnyCall = Callable[..., Any]


class RequestPlan(NamedTuple):
    """What one meta block means for the call."""

    content_type: str
    accept: str
    is_text: bool
    headers: Dict[str, str]
    path: str


class FunctionsHandler:
    """User functions and defaults, ready to take requests."""

    def __init__(
        self,
        functions: Dict[str, UserFunction],
        model: Any,
        properties: SystemProperties,
        *,
        default_accept: str,
        unsupported_is_500: bool = False,
    ) -> None:
        """Join the functions.

        Args:
            functions: As ``find_functions`` returns them.
            model: What ``model_fn`` returned.
            properties: For the context of each request.
            default_accept: Reply type for requests that ask for none or for any.
            unsupported_is_500: Answer 500 to types that the defaults do not know, as today's
                AWS containers do, instead of the documented 415 and 406.
        """
        serving = {
            name: function
            for name, function in functions.items()
            if name in ("input_fn", "predict_fn", "output_fn", "transform_fn")
        }
        parameters_fn = functions.get("execution_parameters_fn")
        self.is_async = any(
            function.is_async or inspect.isasyncgenfunction(function.call)
            for function in serving.values()
        ) or (parameters_fn is not None and parameters_fn.is_async)
        self._parameters_fn = parameters_fn
        self._uses_context = any(function.takes_context for function in serving.values())
        encodes_by_default = not {"output_fn", "transform_fn"} & serving.keys()
        self._known_types = codecs.ENCODED_TYPES if encodes_by_default else ()
        if not {"input_fn", "transform_fn"} & serving.keys():
            codecs.numpy_or_none()  # now rather than at the first request
        self._transform: AnyCall = (
            _async_chain(serving, model) if self.is_async else _chain(serving, model)
        )
        self._properties = properties
        self._default_accept = default_accept
        self._unsupported_is_500 = unsupported_is_500
        self._metas = MetaCache()
        self._plans: Dict[bytes, RequestPlan] = {}

    # Handler ------------------------------------------------------------------------------

    def invoke(self, meta: bytes, body: bytes) -> Reply:
        context = None
        try:
            plan = self._plans.get(meta) or self.plan(meta)
            content_type, accept, is_text, headers, path = plan
            if path != INVOCATIONS:
                if path != EXECUTION_PARAMETERS or self._parameters_fn is None:
                    return self._not_found(path)
                return self.reply(self._parameters_fn.call(), accept, None)
            data = body.decode() if is_text else body
            if self._uses_context:
                context = Context(self._properties, headers)
            return self.reply(self._transform(data, content_type, accept, context), accept, context)
        # BaseException: a sys.exit() in one request must not end the worker for the others.
        except BaseException as error:  # noqa: BLE001
            return self.failure(error)

    async def invoke_async(self, meta: bytes, body: bytes) -> Reply:
        context = None
        try:
            plan = self._plans.get(meta) or self.plan(meta)
            content_type, accept, is_text, headers, path = plan
            if path != INVOCATIONS:
                if path != EXECUTION_PARAMETERS or self._parameters_fn is None:
                    return self._not_found(path)
                result = self._parameters_fn.call()
                if self._parameters_fn.is_async:
                    result = await result
                return self.reply(result, accept, None)
            data = body.decode() if is_text else body
            if self._uses_context:
                context = Context(self._properties, headers)
            result = await self._transform(data, content_type, accept, context)
            return self.reply(result, accept, context)
        # Not BaseException: a cancelled request has to stop.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return self.failure(error)

    # Requests and replies -----------------------------------------------------------------

    def plan(self, meta: bytes) -> RequestPlan:
        """Work out what a meta block means, and remember it."""
        headers = self._metas.decode(meta)
        content_type = media_type(headers.get("content-type", ""))
        plan = RequestPlan(
            content_type=content_type,
            accept=choose(headers.get("accept", ""), self._default_accept, self._known_types),
            is_text=content_type in codecs.TEXT_TYPES,
            headers={name: value for name, value in headers.items() if name != ":path"},
            path=headers.get(":path", INVOCATIONS),
        )
        if len(self._plans) >= PLANS:
            self._plans.clear()
        self._plans[meta] = plan
        return plan

    def new_context(self, plan: RequestPlan) -> Optional[Context]:
        """Return the context of one request; None where no function takes one."""
        return Context(self._properties, plan.headers) if self._uses_context else None

    def reply(self, result: Any, accept: str, context: Optional[Context]) -> Reply:
        """Return the reply for what ``output_fn`` or ``transform_fn`` returned.

        Raises:
            Exception: It is nothing that can be sent.
        """
        content_type = None
        if type(result) is tuple and len(result) == 2:
            result, content_type = result
        if type(result) is str:
            body = result.encode()
        elif type(result) is bytes:
            body = result
        elif isinstance(result, (bytearray, memoryview)):
            body = bytes(result)
        elif isinstance(result, GENERATORS):
            return 200, b"", self._stream(result, content_type, accept, context)
        else:
            # The toolkits' model server writes anything else as JSON, or fails.
            body = codecs.encode_json(result)
        if context is not None:
            status, meta = self._head(content_type, accept, context)
            return status, meta, body
        content_type = accept if content_type is None else str(content_type)
        meta = self._metas.encode((("content-type", content_type),))
        if len(meta) > MAX_META:
            raise _too_long(meta)
        return 200, meta, body

    def _stream(
        self, parts: Any, content_type: Any, accept: str, context: Optional[Context]
    ) -> Stream:
        # Not in reply(): names that a closure holds on to are slower for everybody there.
        return Stream(parts, lambda: self._head(content_type, accept, context), self.failure)

    def _head(
        self, content_type: Any, accept: str, context: Optional[Context]
    ) -> Tuple[int, bytes]:
        """Return status and meta block of a reply; ``content_type`` None: not returned with it."""
        headers = {"content-type": accept}
        status = 200
        if context is not None:
            headers.update(context.reply_headers)
            status = context.reply_status or 200
            if not 200 <= status <= 599:
                raise ValueError(f"set_response_status({status}): no status of a final reply")
        if content_type is not None:
            headers["content-type"] = str(content_type)
        meta = self._metas.encode(tuple(headers.items()))
        if len(meta) > MAX_META:
            raise _too_long(meta)
        return status, meta

    def _not_found(self, path: str) -> Reply:
        meta = self._metas.encode((("content-type", TEXT_ERROR),))
        return 404, meta, f"The handler has nothing at {path}.".encode()

    def failure(self, error: BaseException) -> Tuple[int, bytes, bytes]:
        """Return the container's reply to a failure (handlers.md 4 and 8), and log it."""
        trace = format_trace(error)
        try:
            sys.stderr.write(trace)
        except (OSError, ValueError):
            pass  # the disk is full, or the user closed it: the caller still reads the reason
        try:
            message = str(getattr(error, "message", "") or error) or type(error).__name__
        except Exception:  # noqa: BLE001 (the user's own __str__)
            message = type(error).__name__
        if isinstance(error, ProtocolError):
            status = 400
        elif isinstance(error, codecs.UnsupportedFormat) and not self._unsupported_is_500:
            body = {"error": type(error).__name__, "error-message": message, "stack-trace": trace}
            meta = self._metas.encode((("content-type", codecs.JSON),))
            return error.status, meta, codecs.encode_json(body)
        else:
            # BaseInferenceToolkitError, and the exceptions of web frameworks.
            status = getattr(error, "status_code", 500)
            if not isinstance(status, int) or not 400 <= status <= 599:
                status = 500
        meta = self._metas.encode((("content-type", TEXT_ERROR),))
        return status, meta, f"{message}\n{trace}".encode("utf-8", "replace")


def _too_long(meta: bytes) -> ValueError:
    return ValueError(f"the reply's headers are {len(meta)} bytes; {MAX_META} are possible")


# Chains -----------------------------------------------------------------------------------


def default_predict(data: Any, model: Any) -> Any:
    """Do what the model itself offers."""
    predict = getattr(model, "predict", None)
    if predict is not None:
        return predict(data)
    if callable(model):
        return model(data)
    raise NotImplementedError(
        "Please provide a predict_fn implementation: what model_fn returned has no predict(), "
        "and is no function."
    )


def default_encode(prediction: Any, accept: str) -> Any:
    """Encode a value; a generator's parts are the reply's parts as they are."""
    return prediction if isinstance(prediction, GENERATORS) else codecs.encode(prediction, accept)


def _chain(functions: Dict[str, UserFunction], model: Any) -> AnyCall:
    """Return one function of (data, content type, accept, context) for plain functions."""
    if "transform_fn" in functions:
        transform, takes_context, _ = functions["transform_fn"]
        if takes_context:
            return lambda data, content_type, accept, context: transform(
                model, data, content_type, accept, context
            )
        return lambda data, content_type, accept, context: transform(
            model, data, content_type, accept
        )
    if not any(function.takes_context for function in functions.values()):
        decode = functions["input_fn"].call if "input_fn" in functions else codecs.decode
        predict = functions["predict_fn"].call if "predict_fn" in functions else default_predict
        encode = functions["output_fn"].call if "output_fn" in functions else default_encode

        return lambda data, content_type, accept, context: encode(
            predict(decode(data, content_type), model), accept
        )
    decode = with_context(functions, "input_fn", codecs.decode)
    predict = with_context(functions, "predict_fn", default_predict)
    encode = with_context(functions, "output_fn", default_encode)
    return lambda data, content_type, accept, context: encode(
        predict(decode(data, content_type, context), model, context), accept, context
    )


def with_context(functions: Dict[str, UserFunction], name: str, default: AnyCall) -> AnyCall:
    """Return a function of two arguments and a context, which it may drop."""
    function = functions.get(name)
    if function is not None and function.takes_context:
        return function.call
    plain = function.call if function is not None else default
    return lambda first, second, context: plain(first, second)


def _async_chain(functions: Dict[str, UserFunction], model: Any) -> AnyCall:
    """Like ``_chain``, where at least one function is a coroutine function."""

    async def call(name: str, default: Optional[AnyCall], *arguments: Any) -> Any:
        function = functions.get(name)
        if function is None:
            assert default is not None
            return default(*arguments[:-1])
        result = function.call(*(arguments if function.takes_context else arguments[:-1]))
        return await result if function.is_async else result

    async def transform(data: Any, content_type: str, accept: str, context: Any) -> Any:
        return await call("transform_fn", None, model, data, content_type, accept, context)

    async def chain(data: Any, content_type: str, accept: str, context: Any) -> Any:
        decoded = await call("input_fn", codecs.decode, data, content_type, context)
        prediction = await call("predict_fn", default_predict, decoded, model, context)
        return await call("output_fn", default_encode, prediction, accept, context)

    return transform if "transform_fn" in functions else chain
