"""Entry of a worker process, started by path in the model's interpreter.

``<python> <site>/clary/worker/main.py clary-worker <endpoint>/<variant>/<instance> <spec.json>
<container index> <worker index>``, or ``clary-template`` for one that makes workers.

That interpreter has no Clary installed, and must not get our dependencies on its path. So this
file takes its own directory off ``sys.path`` (our ``codecs`` must shadow nobody's) and puts the
``clary`` package into ``sys.modules`` from where it lies: the standard library and our own modules,
nothing else.
"""

import importlib.util
import os
import sys
from typing import List


def install_package() -> None:
    """Make ``import clary`` work without a search path that leads to it."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    package = os.path.dirname(here)
    spec = importlib.util.spec_from_file_location(
        "clary", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["clary"] = module
    spec.loader.exec_module(module)


def main(arguments: List[str]) -> int:
    """Run one worker; return its exit status."""
    # Here and not at the top: only now is the package importable, and a command's worker must
    # not pay the memory of the other style's modules.
    from clary.worker.spec import WorkerFiles, read_spec  # noqa: PLC0415

    _, word, _, spec_path, container_index, worker_index = arguments
    spec = read_spec(spec_path)
    container = spec.containers[int(container_index)]
    files = WorkerFiles(spec.run_dir, int(container_index), int(worker_index))
    os.chdir(container.cwd)
    if container.style == "command":
        from clary.worker.handlers.command import run_command  # noqa: PLC0415

        return run_command(spec, container, files)
    if word == "clary-template":
        from clary.worker.template import run_template  # noqa: PLC0415

        return run_template(spec, container)
    from clary.worker.serving import run_handler  # noqa: PLC0415

    return run_handler(spec, container, files)


if __name__ == "__main__":
    install_package()
    sys.exit(main(sys.argv))
