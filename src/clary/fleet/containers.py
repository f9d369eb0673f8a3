"""What one container's process sees: its variables, and where its code lies.

Pure but for a look at which files are there. ``preparation`` does the fetching.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clary.errors import PermanentError

INHERITED = ("HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""Variables of the server that models get too; ``PATH`` in addition, behind the environment's own
programs. Nothing else leaks: the server's variables may hold secrets of its owner."""

_OPT_ML = re.compile(r"/opt/ml/(model|code)(?![\w.-])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Directories of one container."""

    base_dir: Path
    """Stands for ``/opt/ml``."""

    model_dir: Path
    code_dir: Path
    tmp_dir: Path

    @property
    def adapter_variables(self) -> dict[str, str]:
        """Where a copy of an inference component finds the adapters that it has loaded."""
        return {"SAGEMAKER_ADAPTERS_DIR": str(self.base_dir / "adapters")}


def container_variables(
    *,
    model: Mapping[str, str],
    image: Mapping[str, str],
    platform: Mapping[str, str],
    inherited: Mapping[str, str],
    places: Places,
    python: str,
    gpus: tuple[int, ...],
) -> dict[str, str]:
    """Return all variables of a container's processes.

    Later ones win: the server's own (``INHERITED``), the platform's, the image's, the model's; and
    then what belongs to this instance alone. ``/opt/ml/model`` and ``/opt/ml/code`` in values of
    image and model become the instance's directories, for there is no container around them.

    Args:
        model: The model's Environment.
        image: Variables of the image's row.
        platform: The same for all models: AWS endpoint, region, credentials.
        inherited: The server's own variables.
        places: The container's directories.
        python: Interpreter; its directory leads ``PATH``.
        gpus: Indices of the GPUs that the instance may use.
    """
    variables = {name: inherited[name] for name in INHERITED if name in inherited}
    path = inherited.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    variables["PATH"] = f"{Path(python).parent}:{path}"
    variables["TMPDIR"] = str(places.tmp_dir)
    variables["PYTHONUNBUFFERED"] = "1"
    variables["SM_MODEL_DIR"] = str(places.model_dir)
    variables.update(platform)
    own = {**image, **model}
    variables.update({name: move_paths(value, places) for name, value in own.items()})
    variables["SAGEMAKER_BASE_DIR"] = str(places.base_dir)
    # Empty, not absent: an instance type without GPUs must not see those of the machine.
    variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    return variables


def move_paths(value: str, places: Places) -> str:
    """Return a value with the container's paths replaced by this instance's."""
    directories = {"model": str(places.model_dir), "code": str(places.code_dir)}
    return _OPT_ML.sub(lambda match: directories[match[1]], value)


def program_of(environment: Mapping[str, str]) -> str:
    """Return the module with the handler functions: ``SAGEMAKER_PROGRAM`` without ``.py``.

    ``inference/handler.py`` stays a path in a sub-folder of the code: ``inference/handler``.

    Raises:
        PermanentError: It leads out of the code.
    """
    program = environment.get("SAGEMAKER_PROGRAM", "").strip() or "inference.py"
    if program.startswith("/") or ".." in program.split("/"):
        raise PermanentError(
            f"SAGEMAKER_PROGRAM={program!r} in the model's Environment must be a path inside the "
            "code, such as inference.py"
        )
    return program.removeprefix("./").removesuffix(".py")


def has_program(directory: Path, program: str) -> bool:
    """Whether the handler's module is there."""
    return (directory / f"{program}.py").is_file()


def code_in_model(model_dir: Path, program: str, *, is_command: bool) -> Path | None:
    """Return where the code lies inside the artifact, or None when it brings none.

    ``code/`` by the toolkits' convention (handlers.md 1); else the artifact's top, where people put
    ``inference.py`` when they pack an archive by hand.
    """
    if (model_dir / "code").is_dir():
        return model_dir / "code"
    if is_command or has_program(model_dir, program):
        return model_dir
    return None
