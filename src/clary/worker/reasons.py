"""Why a worker ended, in words that a person can act on.

Becomes part of a FailureReason, which AWS limits to 1024 characters and to which the fleet adds
its own beginning; hence the limit here.
"""

import json
import os
import signal
from typing import Optional

from clary.worker.watching import Ending

MAX_MESSAGE = 260
MAX_TAIL = 340
HOST_PREFIX = "clary-host: "
"""Begins the host's own lines in the log, which say nothing about the model."""
TAIL_READ_BYTES = 16 * 1024


def describe_status(wait_status: int) -> str:
    """Return how a process ended, from what ``waitpid`` said."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        try:
            return f"its process was ended by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"its process was ended by signal {number}"
    return f"its process ended with exit status {os.WEXITSTATUS(wait_status)}"


def describe_ending(wait_status: int, failure_path: str, log: str, log_offset: int) -> Ending:
    """Return how a worker ended, with its own report and its last log lines where there are any.

    Args:
        wait_status: As ``waitpid`` gives it.
        failure_path: Where the worker leaves a report when it cannot load.
        log: The instance's log.
        log_offset: Length of the log when this worker was started.
    """
    text = describe_status(wait_status)
    is_final = False
    try:
        with open(failure_path, encoding="utf-8") as file:
            report = json.loads(file.readline())
        text = str(report["message"])
        is_final = bool(report.get("final"))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # it had no time to write one
    tail = log_tail(log, log_offset)
    return Ending(
        text=shorten(text, MAX_MESSAGE),
        log_tail=f"Last lines of the log:\n{tail}" if tail else "",
        is_final=is_final,
    )


def log_tail(path: str, offset: int, limit: int = MAX_TAIL) -> str:
    """Return the last whole lines of a log behind an offset, at most ``limit`` characters."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            # After a rotation the file is shorter than it was.
            file.seek(max(offset if offset <= end else 0, end - TAIL_READ_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    kept: Optional[str] = None
    for line in reversed(text.splitlines()):
        if not line.strip() or _is_ours(line):
            continue
        longer = line.rstrip() if kept is None else f"{line.rstrip()}\n{kept}"
        if len(longer) > limit:
            return kept if kept is not None else shorten(longer, limit)
        kept = longer
    return kept or ""


def _is_ours(line: str) -> bool:
    """Whether a line says nothing about the model: the host's own, and our frames in a stack."""
    return line.startswith((HOST_PREFIX, "Extension modules: ")) or line.lstrip().startswith(
        f'File "{os.path.dirname(os.path.abspath(__file__))}{os.sep}'
    )


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters, the middle left out."""
    if len(text) <= limit:
        return text
    head = (limit - 5) * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (limit - 5 - head) :]}"
