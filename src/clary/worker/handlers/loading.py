"""Loads a handler of the ``inference.py`` style: import, check, ``model_fn``, warm-up."""

import os
from typing import Any, Awaitable, Callable, Dict, Optional

from clary.worker.batcher import read_batching
from clary.worker.handlers.base import HandlerFailed
from clary.worker.handlers.batches import BatchingHandler, with_batches_of_one
from clary.worker.handlers.context import Context, SystemProperties
from clary.worker.handlers.functions import FunctionsHandler
from clary.worker.handlers.module import (
    check_batching,
    find_batch_functions,
    find_functions,
    import_program,
)
from clary.worker.negotiation import DEFAULT_CONTENT_TYPE
from clary.worker.spec import ContainerSpec


def load_functions(
    container: ContainerSpec, run: "Callable[[Awaitable[Any]], Any]"
) -> FunctionsHandler:
    """Import the user's module, load the model and return the handler.

    Args:
        container: What to load.
        run: Waits for an awaitable, on the loop that will serve.

    Raises:
        HandlerFailed: The module is no usable handler, or the environment asks for nonsense.
        BaseException: Whatever the user's code raises.
    """
    try:
        batching = read_batching(os.environ)
    except ValueError as error:
        raise HandlerFailed(str(error), is_final=True) from error
    module = import_program(container.program, container.code_dir)
    functions = find_functions(module)
    if "model_fn" not in functions:
        raise HandlerFailed(
            f"Please provide a model_fn implementation. ({_where(container)} has none.)",
            is_final=True,
        )
    batch_functions = find_batch_functions(module)
    if batching.max_size > 1:
        check_batching(functions)
    properties = SystemProperties(
        model_dir=container.model_dir,
        gpu_id=_gpu_id(os.environ.get("CUDA_VISIBLE_DEVICES", "")),
        batch_size=batching.max_size,
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
    options: Dict[str, Any] = {
        "default_accept": os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT")
        or DEFAULT_CONTENT_TYPE,
        "unsupported_is_500": os.environ.get("CLARY_UNSUPPORTED_TYPE_IS_500", "").lower()
        in ("1", "true", "yes"),
    }
    if batching.max_size == 1:
        functions = with_batches_of_one(functions, batch_functions)
        return FunctionsHandler(functions, model, properties, **options)
    return BatchingHandler(functions, batch_functions, model, properties, batching, **options)


def _where(container: ContainerSpec) -> str:
    path = container.program
    path = path if path.endswith(".py") else path + ".py"
    file = os.path.join(container.code_dir, path)
    return f"code/{path}" if os.path.isfile(file) else f"code/{path} does not exist, so it"


def _gpu_id(visible: str) -> Optional[int]:
    """Return 0, CUDA's number of the first device that this process sees, or None."""
    return 0 if visible and not visible.startswith("-") else None
