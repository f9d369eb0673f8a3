"""What commands print.

Results go to standard output, plain enough for a pipe; what happens meanwhile goes to standard
error. On a terminal there is colour and a spinner; elsewhere the same words, one line each.
"""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

STATUS_STYLES = {
    "InService": "green",
    "Creating": "yellow",
    "Updating": "yellow",
    "Deleting": "yellow",
    "RollingBack": "yellow",
    "Failed": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def stdout() -> Console:
    """A console for results."""
    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    """A console for what happens meanwhile."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON that another program can read."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], console: Console) -> None:
    """Print aligned columns without a frame; words that are a status get its colour."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
    console.print(table, soft_wrap=False)


def ago(moment: datetime, now: datetime | None = None) -> str:
    """Return a time that has passed in one unit: ``5 s``, ``3 min``, ``2 h``, ``9 d``."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def size_text(count: float) -> str:
    """Return a number of bytes for people: ``12 KB``, ``3.4 MB``."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return (
                f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} GB"


class Steps:
    """The progress display: one line for each step that is done, a spinner for the one that runs.

    ``with Steps(stderr()) as steps:`` then ``steps.begin("uploading")``, ``steps.detail("40 %")``
    and so on; a new step ends the one before. Leaving the block by an exception marks the running
    step as failed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner: Status | None = None
        self._name = ""
        self._detail = ""
        self._began = 0.0

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._finish(failed=kind is not None)

    def begin(self, name: str) -> None:
        """End the running step well and start another. The same name again changes nothing."""
        if name == self._name:
            return
        self._finish(failed=False)
        self._name, self._detail, self._began = name, "", time.monotonic()
        if self._console.is_terminal:
            self._spinner = self._console.status(Text(name))
            self._spinner.start()

    def detail(self, text: str) -> None:
        """Say more about the running step; the last word stays on its line."""
        self._detail = text
        if self._spinner is not None:
            self._spinner.update(Text.assemble(self._name, "  ", (text, "dim")))

    def _finish(self, *, failed: bool) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if not self._name:
            return
        took = f"{time.monotonic() - self._began:.1f} s"
        mark = Text("✗ ", "red") if failed else Text("✓ ", "green")
        self._console.print(
            Text.assemble(mark, f"{self._name:<12}", (f"{took:>8}", "dim"), "  ", self._detail)
        )
        self._name = ""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)
