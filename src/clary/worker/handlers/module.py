"""Finds the user's module and the functions in it; checks them once, while loading.

The toolkits notice a function with too many arguments at the first request. Here such a handler
does not load, so that the endpoint fails with a reason instead of every invocation.
"""

import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any, Callable, Dict, NamedTuple, Optional

from clary.worker.handlers.base import HandlerFailed

PLAIN_ARGUMENTS: Dict[str, int] = {
    "model_fn": 1,
    "input_fn": 2,
    "predict_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
    "pre_model_fn": 1,
    "model_warmup_fn": 2,
    "execution_parameters_fn": 0,
}
"""Arguments of each function without ``context`` (handlers.md 1)."""

BATCH_ARGUMENTS: Dict[str, int] = {"batch_fn": 1, "unbatch_fn": 2}
"""Ours, and only where both are there."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class UserFunction(NamedTuple):
    """One function of the user's."""

    call: Callable[..., Any]
    takes_context: bool
    is_async: bool


def import_program(program: str, code_dir: str) -> Optional[ModuleType]:
    """Import the user's module by its file; None when there is no such file.

    By file and not by name, so that no installed package of the same name is taken for it. Its
    code directory comes first on the path, then the module's own folder.

    Raises:
        BaseException: Whatever the module raises, ``SystemExit`` included.
    """
    path = program[:-3] if program.endswith(".py") else program
    file = os.path.join(code_dir, path + ".py")
    for folder in (os.path.dirname(file), code_dir):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    if not os.path.isfile(file):
        return None
    name = path.strip("/").replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Before it runs: pickles and dataclasses look the module up by name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_functions(module: Optional[ModuleType]) -> Dict[str, UserFunction]:
    """Return the handler functions that a module defines.

    Raises:
        HandlerFailed: A function takes a number of arguments that nobody will give it, or
            ``transform_fn`` stands beside those that it replaces.
    """
    found = _find(module, PLAIN_ARGUMENTS)
    if "transform_fn" in found and found.keys() & {"input_fn", "predict_fn", "output_fn"}:
        raise HandlerFailed(
            "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, "
            "and/or output_fn implementation",
            is_final=True,
        )
    return found


def find_batch_functions(module: Optional[ModuleType]) -> Dict[str, UserFunction]:
    """Return ``batch_fn`` and ``unbatch_fn``, or nothing: one alone is some function of the user's.

    Raises:
        HandlerFailed: They take other arguments than they will get, or are asynchronous.
    """
    if not all(callable(getattr(module, name, None)) for name in BATCH_ARGUMENTS):
        return {}
    found = _find(module, BATCH_ARGUMENTS)
    for name, function in found.items():
        if function.is_async:
            raise HandlerFailed(f"{name} must be a plain function.", is_final=True)
    return found


def check_batching(functions: Dict[str, UserFunction]) -> None:
    """Check that requests of these functions can be batched at all.

    Raises:
        HandlerFailed: A function is asynchronous or a generator.
    """
    for name in ("input_fn", "predict_fn", "output_fn", "transform_fn"):
        function = functions.get(name)
        if function is None:
            continue
        if function.is_async or inspect.isasyncgenfunction(function.call):
            raise HandlerFailed(
                f"{name} is asynchronous. Asynchronous handlers work on any number of requests at "
                "once and are not batched: set MODEL_MAX_BATCH_SIZE to 1, or make it a plain "
                "function.",
                is_final=True,
            )
        if name in ("predict_fn", "transform_fn") and inspect.isgeneratorfunction(function.call):
            raise HandlerFailed(
                f"{name} is a generator. Streams are not batched: set MODEL_MAX_BATCH_SIZE to 1.",
                is_final=True,
            )


def _find(module: Optional[ModuleType], arguments: Dict[str, int]) -> Dict[str, UserFunction]:
    found: Dict[str, UserFunction] = {}
    for name, plain in arguments.items():
        function = getattr(module, name, None)
        if not callable(function):
            continue
        count = _count_arguments(function, plain)
        may_take_context = name not in ("execution_parameters_fn", *BATCH_ARGUMENTS)
        if count != plain and not (may_take_context and count == plain + 1):
            raise HandlerFailed(
                f"{name} takes {count} arguments but {plain} were given.", is_final=True
            )
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object whose call is async)
        )
        found[name] = UserFunction(function, count == plain + 1, is_async)
    return found


def _count_arguments(function: Callable[..., Any], plain: int) -> int:
    """Return how many arguments a function wants; one with ``*args`` is glad of the plain ones."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    count = sum(kind in _POSITIONAL for kind in kinds)
    return max(count, plain) if inspect.Parameter.VAR_POSITIONAL in kinds else count
