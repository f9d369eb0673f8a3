"""Which runner an image gets.

An image URI is matched against the rows of the settings file, then against the built-in ones below;
the first row that matches wins. Without docker an image is a name: what counts is how its
containers are run (``handler``, ``command`` or ``container``), and what it brings along.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from clary.errors import PermanentError
from clary.settings import RunnerSettings

Style = Literal["handler", "command"]

FRAMEWORK_IMAGES = (
    "sagemaker-scikit-learn",
    "sagemaker-xgboost",
    "pytorch-inference",
    "huggingface-pytorch-inference",
    "huggingface-tensorflow-inference",
    "tensorflow-inference",
    "mxnet-inference",
    "sagemaker-pytorch",
    "sagemaker-mxnet",
    "sagemaker-inference",
)
"""Repositories of AWS whose containers run the functions of ``inference.py`` (client-flows.md)."""

_PORT = re.compile(r"\$(?:SAGEMAKER_BIND_TO_PORT\b|\{SAGEMAKER_BIND_TO_PORT\})")
_ECR_HOST = r"(?:\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/|public\.ecr\.aws/\w+/)?"
_FRAMEWORKS = "|".join(re.escape(name) for name in FRAMEWORK_IMAGES)

BUILT_IN = (
    # Any account, any region, any tag, and the bare names that people use on their own machines.
    RunnerSettings(match=rf"/^{_ECR_HOST}(?:{_FRAMEWORKS})(?:-graviton)?(?:[:@].*)?$/"),
    RunnerSettings(match="clary/python*"),
    RunnerSettings(match="clary/server*", runner="command"),
)

COMMAND_VARIABLE = "CLARY_COMMAND"
"""Model's Environment: the command of a ``clary/server`` image, as a shell would split it."""

PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
"""Where a server of the user's own has to listen; set anew for each start of a worker."""

APP_VARIABLE = "CLARY_APP"
"""Model's Environment: the ASGI application of a ``clary/server`` image, ``module:attribute``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How the containers of one image are run."""

    style: Style
    python: str
    """Interpreter of the base environment."""

    command: tuple[str, ...] = ()
    """For ``command``: program and arguments. Empty: an ASGI application is named."""

    app: str = ""
    """For ``command``: an ASGI application as ``module:attribute``."""

    code: str = ""
    """Local directory with code that the image brings, or nothing."""

    environment: Mapping[str, str]
    """Variables that the image sets; those of the model win."""

    def argv(self, python: str) -> tuple[str, ...]:
        """Return the command line of a ``command`` container.

        Args:
            python: Interpreter of the instance's environment, which may be layered over
                ``self.python``; a command that starts with ``python`` means this one.
        """
        if self.app:
            uvicorn = (python, "-m", "uvicorn", self.app)
            return _expand_port((*uvicorn, "--host", "127.0.0.1", "--port", "$" + PORT_VARIABLE))
        program, *arguments = self.command
        return _expand_port((python if program in ("python", "python3") else program, *arguments))


def find_row(image: str, rows: Sequence[RunnerSettings]) -> RunnerSettings | None:
    """Return the first row, of these and then of the built-in ones, that matches an image."""
    return next((row for row in (*rows, *BUILT_IN) if matches(row.match, image)), None)


def matches(pattern: str, image: str) -> bool:
    """Whether an image URI is meant by a pattern: exact, a glob, or ``/regular expression/``.

    Raises:
        PermanentError: The regular expression is none.
    """
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        try:
            return re.search(pattern[1:-1], image) is not None
        except re.error as error:
            raise PermanentError(
                f"The image table in clary.toml has a row with match = {pattern!r}, which is no "
                f"regular expression: {error}."
            ) from error
    return image == pattern or fnmatchcase(image, pattern)


def choose_runner(
    image: str,
    environment: Mapping[str, str],
    rows: Sequence[RunnerSettings],
    *,
    base_python: str,
    has_program: bool,
) -> Runner:
    """Return what runs an image.

    Args:
        image: Image URI of the container definition; empty when it names none.
        environment: The model's Environment.
        rows: Image table of the settings.
        base_python: Interpreter for rows that name none.
        has_program: Whether the model's code holds handler functions, so that an image that no row
            knows can be run by them.

    Raises:
        PermanentError: Nothing here can run it; the text says what to write into clary.toml.
    """
    row = find_row(image, rows)
    if row is None:
        if not has_program:
            raise PermanentError(_unknown_image(image))
        row = RunnerSettings(match=image)
    if row.runner == "container":
        raise PermanentError(
            f'Image "{image}" is set to run as an OCI container (runner = "container" in '
            "clary.toml), which this version of Clary cannot do yet. Run its code without one: set "
            'runner = "handler" for an inference.py, or runner = "command" for a server of your '
            "own, and name its directory in code."
        )
    # Absolute, for workers start in their code's directory; not resolved, for a virtual environment
    # is known by the path that its interpreter is called by.
    python = os.path.abspath(Path(row.python).expanduser()) if row.python else base_python
    if row.runner == "handler":
        return Runner(
            style="handler", python=python, code=row.code, environment=dict(row.environment)
        )
    command, app = _command_of(image, row, {**row.environment, **environment})
    return Runner(
        style="command",
        python=python,
        command=command,
        app=app,
        code=row.code,
        environment=dict(row.environment),
    )


def _expand_port(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command in which ``$SAGEMAKER_BIND_TO_PORT`` is expanded when it starts.

    Only then is the port known. Nothing else is: all other words are quoted for the shell.
    """
    if not any(_PORT.search(word) for word in words):
        return words
    quoted = []
    for word in words:
        pieces = _PORT.split(word)
        quoted.append(f'"${PORT_VARIABLE}"'.join(shlex.quote(p) if p else "" for p in pieces))
    return ("/bin/sh", "-c", "exec " + " ".join(word or "''" for word in quoted))


def _command_of(
    image: str, row: RunnerSettings, environment: Mapping[str, str]
) -> tuple[tuple[str, ...], str]:
    """Return (command, app), one of them empty. The model's own words win over the row's."""
    if app := environment.get(APP_VARIABLE, ""):
        return (), _checked_app(app)
    if text := environment.get(COMMAND_VARIABLE, ""):
        try:
            command = tuple(shlex.split(text))
        except ValueError as error:
            raise PermanentError(
                f"{COMMAND_VARIABLE}={text!r} in the model's Environment cannot be split into "
                f"words: {error}."
            ) from error
        if command:
            return command, ""
    if row.app:
        return (), _checked_app(row.app)
    if row.command:
        return row.command, ""
    raise PermanentError(
        f'Image "{image}" runs a server of your own, but nothing says which. Set {APP_VARIABLE} '
        f'(an ASGI application, such as "server:app") or {COMMAND_VARIABLE} in the model\'s '
        "Environment, or app or command in the image's row in clary.toml."
    )


def _checked_app(app: str) -> str:
    module, colon, attribute = app.partition(":")
    if not (colon and module and attribute) or app.startswith("-"):
        raise PermanentError(
            f"{app!r} is no ASGI application: write it as module:attribute, such as server:app."
        )
    return app


def _unknown_image(image: str) -> str:
    name = image or "(none)"
    return (
        f'No runner for image "{name}", and the model brings no inference.py that could be run '
        "without it. Put inference.py into code/ of the model archive, or add a row to clary.toml: "
        f'[[runners]] match = "{name}" runner = "command" command = ["python", "server.py"] '
        'code = "/path/to/the/image\'s/code" (or runner = "handler").'
    )
