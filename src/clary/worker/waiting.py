"""A worker without a model: the spare of a multi-model endpoint's instance.

It has done all that a start costs before any model is known: the interpreter, our modules, and the
libraries that the models before it needed. Then it reads from its stdin which model it is.
"""

import contextlib
import importlib
import io
import json
import os
import sys
from typing import List, Optional

from clary.status_page import create_page
from clary.worker.spec import ContainerSpec, WorkerFiles

SEEN_MODULES = "modules"
"""File in the run directory: libraries that models of this instance have imported."""
MAX_SEEN = 4096


def wait_for_model(container: ContainerSpec, files: WorkerFiles) -> Optional[ContainerSpec]:
    """Warm up, wait, and return what is to be loaded; None when no model will come."""
    seen = os.path.join(os.path.dirname(files.status), SEEN_MODULES)
    preload(seen)
    create_page(files.status)  # tells the host that this one is warm
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return None
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    model = json.loads(line)
    os.environ.update(model["environment"])
    os.chdir(model["code_dir"])
    return container._replace(
        model_dir=model["model_dir"], code_dir=model["code_dir"], cwd=model["code_dir"]
    )


def preload(path: str) -> None:
    """Import the libraries in a list; what cannot be imported is left to the model."""
    try:
        with open(path, encoding="utf-8") as file:
            names = file.read().split()
    except OSError:
        return
    for name in names:
        # What a library prints or raises now is of no use to anybody.
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name)


def remember_modules(files: WorkerFiles) -> None:
    """Write down which libraries this model has imported, for the spares that come."""
    path = os.path.join(os.path.dirname(files.status), SEEN_MODULES)
    try:
        with open(path, encoding="utf-8") as file:
            known = file.read().split()
    except OSError:
        known = []
    new = [name for name in installed_modules() if name not in known]
    if not new:
        return
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write("\n".join((known + new)[:MAX_SEEN]) + "\n")
        os.replace(draft, path)
    except OSError:
        pass  # the next start is slower, no more


def installed_modules() -> List[str]:
    """Return the imported modules of installed packages: not the model's own code, nor ours."""
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if f"{os.sep}site-packages{os.sep}" in file and name.partition(".")[0] != "clary":
            names.append(name)
    return names
