"""The handler style of ``inference.py``: model_fn, input_fn, predict_fn, output_fn, transform_fn.

Loading builds one chain of calls from the user's functions and the defaults for those that are
missing; a request then only runs down the chain. What a request's headers mean is worked out once
for each meta block and remembered, for nearly all requests of an endpoint carry the same one.
"""

import os
import sys
from typing import Any, Awaitable, Callable, Dict, NamedTuple, Optional

from clary.messages import MAX_META, MetaCache, ProtocolError
from clary.worker import codecs
from clary.worker.handlers.base import HandlerFailed, Reply
from clary.worker.handlers.context import Context, SystemProperties
from clary.worker.handlers.module import UserFunction, find_functions, import_program
from clary.worker.handlers.traces import format_trace
from clary.worker.negotiation import DEFAULT_CONTENT_TYPE, choose, media_type
from clary.worker.spec import ContainerSpec

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


def load_functions(
    container: ContainerSpec, run: "Callable[[Awaitable[Any]], Any]"
) -> "FunctionsHandler":
    """Import the user's module, load the model and return the handler.

    Args:
        container: What to load.
        run: Waits for an awaitable, on the loop that will serve.

    Raises:
        HandlerFailed: The module is no usable handler.
        BaseException: Whatever the user's code raises.
    """
    functions = find_functions(import_program(container.program, container.code_dir))
    if "model_fn" not in functions:
        raise HandlerFailed(
            f"Please provide a model_fn implementation. ({_where(container)} has none.)",
            is_final=True,
        )
    properties = SystemProperties(
        model_dir=container.model_dir,
        gpu_id=_gpu_id(os.environ.get("CUDA_VISIBLE_DEVICES", "")),
        batch_size=1,
        server_name="clary",
    )
    context = Context(properties)

    def call(name: str, *arguments: Any) -> Any:
        function = functions[name]
        extra = (context,) if function.takes_context else ()
        result = function.call(*arguments, *extra)
        return run(result) if function.is_async else result

    if "pre_model_fn" in functions:
        call("pre_model_fn", container.model_dir)
    model = call("model_fn", container.model_dir)
    if "model_warmup_fn" in functions:
        call("model_warmup_fn", container.model_dir, model)
    return FunctionsHandler(
        functions,
        model,
        properties,
        default_accept=os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")
        or DEFAULT_CONTENT_TYPE,
        unsupported_is_500=os.environ.get("CLARY_UNSUPPORTED_TYPE_IS_500", "").lower()
        in ("1", "true", "yes"),
    )


def _where(container: ContainerSpec) -> str:
    path = container.program
    path = path if path.endswith(".py") else path + ".py"
    file = os.path.join(container.code_dir, path)
    return f"code/{path}" if os.path.isfile(file) else f"code/{path} does not exist, so it"


def _gpu_id(visible: str) -> Optional[int]:
    """Return 0, CUDA's number of the first device that this process sees, or None."""
    return 0 if visible and not visible.startswith("-") else None


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
        self.is_async = any(function.is_async for function in serving.values()) or (
            parameters_fn is not None and parameters_fn.is_async
        )
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
            plan = self._plans.get(meta) or self._plan(meta)
            content_type, accept, is_text, headers, path = plan
            if path != INVOCATIONS:
                if path != EXECUTION_PARAMETERS or self._parameters_fn is None:
                    return self._not_found(path)
                return self._reply(self._parameters_fn.call(), accept, None)
            data = body.decode() if is_text else body
            if self._uses_context:
                context = Context(self._properties, headers)
            return self._reply(
                self._transform(data, content_type, accept, context), accept, context
            )
        # BaseException: a sys.exit() in one request must not end the worker for the others.
        except BaseException as error:  # noqa: BLE001
            return self._failure(error)

    async def invoke_async(self, meta: bytes, body: bytes) -> Reply:
        context = None
        try:
            plan = self._plans.get(meta) or self._plan(meta)
            content_type, accept, is_text, headers, path = plan
            if path != INVOCATIONS:
                if path != EXECUTION_PARAMETERS or self._parameters_fn is None:
                    return self._not_found(path)
                result = self._parameters_fn.call()
                if self._parameters_fn.is_async:
                    result = await result
                return self._reply(result, accept, None)
            data = body.decode() if is_text else body
            if self._uses_context:
                context = Context(self._properties, headers)
            result = await self._transform(data, content_type, accept, context)
            return self._reply(result, accept, context)
        # Not BaseException: a cancelled request has to stop.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return self._failure(error)

    # Requests and replies -----------------------------------------------------------------

    def _plan(self, meta: bytes) -> RequestPlan:
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

    def _reply(self, result: Any, accept: str, context: Optional[Context]) -> Reply:
        status = 200
        content_type = accept
        if type(result) is tuple and len(result) == 2:
            result, content_type = result
        elif context is not None:
            content_type = context.reply_headers.get("content-type", accept)
        if type(result) is str:
            body = result.encode()
        elif type(result) is bytes:
            body = result
        elif isinstance(result, (bytearray, memoryview)):
            body = bytes(result)
        else:
            # The toolkits' model server writes anything else as JSON, or fails.
            body = codecs.encode_json(result)
        if context is not None and (context.reply_headers or context.reply_status):
            status = context.reply_status or 200
            if not 200 <= status <= 599:
                raise ValueError(f"set_response_status({status}): no status of a final reply")
            headers = {**context.reply_headers, "content-type": str(content_type)}
            meta = self._metas.encode(tuple(headers.items()))
        else:
            meta = self._metas.encode((("content-type", str(content_type)),))
        if len(meta) > MAX_META:
            raise ValueError(f"the reply's headers are {len(meta)} bytes; {MAX_META} are possible")
        return status, meta, body

    def _not_found(self, path: str) -> Reply:
        meta = self._metas.encode((("content-type", TEXT_ERROR),))
        return 404, meta, f"The handler has nothing at {path}.".encode()

    def _failure(self, error: BaseException) -> Reply:
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


# Chains -----------------------------------------------------------------------------------


def _default_predict(data: Any, model: Any) -> Any:
    predict = getattr(model, "predict", None)
    if predict is not None:
        return predict(data)
    if callable(model):
        return model(data)
    raise NotImplementedError(
        "Please provide a predict_fn implementation: what model_fn returned has no predict(), "
        "and is no function."
    )


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
        predict = functions["predict_fn"].call if "predict_fn" in functions else _default_predict
        encode = functions["output_fn"].call if "output_fn" in functions else codecs.encode

        return lambda data, content_type, accept, context: encode(
            predict(decode(data, content_type), model), accept
        )
    decode = _with_context(functions, "input_fn", codecs.decode)
    predict = _with_context(functions, "predict_fn", _default_predict)
    encode = _with_context(functions, "output_fn", codecs.encode)
    return lambda data, content_type, accept, context: encode(
        predict(decode(data, content_type, context), model, context), accept, context
    )


def _with_context(functions: Dict[str, UserFunction], name: str, default: AnyCall) -> AnyCall:
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
        prediction = await call("predict_fn", _default_predict, decoded, model, context)
        return await call("output_fn", codecs.encode, prediction, accept, context)

    return transform if "transform_fn" in functions else chain
