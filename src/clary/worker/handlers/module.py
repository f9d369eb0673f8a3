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
    found: Dict[str, UserFunction] = {}
    for name, plain in PLAIN_ARGUMENTS.items():
        function = getattr(module, name, None)
        if not callable(function):
            continue
        count = len(inspect.signature(function).parameters)
        may_take_context = name != "execution_parameters_fn"
        if count != plain and not (may_take_context and count == plain + 1):
            raise HandlerFailed(
                f"{name} takes {count} arguments but {plain} were given.", is_final=True
            )
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object whose call is async)
        )
        found[name] = UserFunction(function, count == plain + 1, is_async)
    if "transform_fn" in found and found.keys() & {"input_fn", "predict_fn", "output_fn"}:
        raise HandlerFailed(
            "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, "
            "and/or output_fn implementation",
            is_final=True,
        )
    return found
