"""Fills the generated parts of the pages in this directory.

    python docs/generate.py            write them
    python docs/generate.py --check    only say whether they are current

A generated part stands between two comments in its page, and everything around it is written by
hand:

    <!-- begin settings: made by docs/generate.py -->
    <!-- end settings -->
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer.main

from clary import settings
from clary.api.coverage import coverage_page
from clary.cli.commands import app

PAGES = Path(__file__).parent


def settings_part() -> str:
    """Every setting: a table for each section."""
    meanings = dict(setting_meanings())
    rows: dict[str, list[str]] = {}
    for name, kind, default in settings.settings_reference():
        section, _, field = name.partition(".")
        meaning = meanings[name].replace("|", "\\|")
        rows.setdefault(section, []).append(
            f"| `{field}` | {_kind(kind)} | {_default(default)} | {meaning} |"
        )
    parts = []
    for section, lines in rows.items():
        title = "[[runners]]" if section == "runners" else f"[{section}]"
        parts.append(f"### `{title}`\n\n{section_meaning(section)}\n")
        parts.append("| setting | type | default | meaning |\n|---|---|---|---|")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def section_meaning(section: str) -> str:
    """The docstring of a section's class."""
    return _one_line(inspect.getdoc(_section_class(section)) or "")


def setting_meanings() -> Iterator[tuple[str, str]]:
    """(full name, docstring below the field) of every setting, read from the source."""
    trees = [ast.parse(inspect.getsource(m)) for m in (settings.values, settings.telemetry)]
    classes = {n.name: n for tree in trees for n in tree.body if isinstance(n, ast.ClassDef)}
    for section in [*settings.Settings.__dataclass_fields__]:
        body = classes[_section_class(section).__name__].body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                name = ast.unparse(field.target)
                yield f"{section}.{name}", _one_line(ast.literal_eval(text.value))


def commands_part() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_commands(typer.main.get_command(app), "clary"))


def _commands(command: Any, path: str) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        for name, child in children.items():
            yield from _commands(child, f"{path} {name}")
        return
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([path, *(f"{_argument(p)}" for p in arguments)])
    yield f"### `{usage}`\n\n{_one_line(command.help)}\n"
    rows = [f"| `{_argument(p)}` | {_help(p)} |" for p in arguments]
    rows += [f"| {_option(p)} | {_help(p)} |" for p in options if p.name != "help"]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    text = " ".join(f"`{name}`" for name in sorted(names, key=len, reverse=True))
    if getattr(parameter, "is_flag", False):
        return text
    kind = parameter.metavar or parameter.name.upper()
    return f"{text} {kind}"


def _help(parameter: Any) -> str:
    text = _one_line(parameter.help or "").replace("|", "\\|")
    default = parameter.default
    plain = default is not None and default != "" and default is not False and not callable(default)
    if parameter.param_type_name == "option" and plain and default is not True:
        text += f" Default: `{default}`."
    return text


def _section_class(section: str) -> type:
    if section == "runners":
        return settings.RunnerSettings
    return type(getattr(settings.Settings(), section))


def _kind(kind: str) -> str:
    if kind.startswith("typing.Literal"):
        options = ast.literal_eval(kind.removeprefix("typing.Literal"))
        return " or ".join(f"`{option}`" for option in options if option)
    return {"str": "text", "int": "number", "float": "number", "bool": "true or false"}.get(
        kind, "table" if kind.startswith("dict") else "list"
    )


def _default(value: object) -> str:
    if isinstance(value, (str, bool, int, float)):
        return "" if value == "" else f"`{json.dumps(value)}`"
    return "" if not value else f"`{value}`"


def _one_line(text: str) -> str:
    plain = re.sub(r"\s+", " ", text.replace("``", "`")).strip()
    return re.sub(r" \((?:\w+\.md[^()]*)\)", "", plain)


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("configuration.md", settings_part),
    "commands": ("cli.md", commands_part),
    "operations": ("operations.md", coverage_page),
}


def filled(page: str, part: str, text: str) -> str:
    """Return the page with the text between the part's comments."""
    begin = f"<!-- begin {part}: made by docs/generate.py -->"
    end = f"<!-- end {part} -->"
    head, found, rest = page.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"the comments of part {part!r} are missing")
    return f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}"


def main() -> int:
    """Write or check; 1 when something is not current."""
    check = "--check" in sys.argv[1:]
    stale = []
    for part, (name, make) in PARTS.items():
        page = PAGES / name
        old = page.read_text()
        new = filled(old, part, make())
        if new != old:
            stale.append(name)
            if not check:
                page.write_text(new)
    if stale:
        verb = "not current, run `make docs`" if check else "written"
        sys.stdout.write(f"{', '.join(stale)}: {verb}\n")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
