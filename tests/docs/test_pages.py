"""Pages are whole: links lead somewhere, generated parts are current, nothing is left out."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clary.settings import load_settings, settings_reference
from pages import ROOT, anchors, blocks, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{link}: no such heading"


def test_every_module_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    there = {
        path.relative_to(ROOT).as_posix()
        for top in ("src", "tests")
        for path in (ROOT / top).rglob("*.py")
    }
    named = set(re.findall(r"[\w/]+\.py", text))
    assert len(named) > 100
    assert [
        name for name in sorted(named) if not any(f"/{p}".endswith(f"/{name}") for p in there)
    ] == []


def test_every_setting_is_on_the_reference_page() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    for name, _, _ in settings_reference():
        section, _, setting = name.partition(".")
        title = "[[runners]]" if section == "runners" else f"[{section}]"
        part = text[text.index(f"### `{title}`") :].partition("\n### ")[0]
        row = re.search(rf"^\| `{setting}` \|.*\| (.+) \|$", part, re.MULTILINE)
        assert row, f"{name} is missing; run `make docs`"
        assert len(row[1]) > 10, f"{name} has no docstring"


def test_generated_parts_are_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/generate.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", ["docs/configuration.md", "docs/deploying.md"])
def test_settings_files_in_the_pages_are_read_as_they_are(page: str, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        file = tmp_path / "clary.toml"
        file.write_text(text)
        settings = load_settings({}, config_file=file)
        assert len(settings.runners) == len(tomllib.loads(text)["runners"])


def test_a_part_without_its_comments_is_not_lost_in_silence() -> None:
    generate = runpy.run_path(str(ROOT / "docs/generate.py"))
    with pytest.raises(SystemExit, match="are missing"):
        generate["filled"]("# A page", "settings", "text")


def test_the_code_of_the_readme_is_the_example_that_the_demo_runs() -> None:
    assert blocks("README.md", "python") == [(ROOT / "examples/digits/quickstart.py").read_text()]


def test_every_dependency_says_what_it_saves() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/decisions/0002-runtime-dependencies.md").read_text()
    for requirement in project["dependencies"]:
        name = re.split(r"[><=~!\[]", requirement)[0]
        assert re.search(rf"^\| {name}\b", page, re.MULTILINE), name


def test_the_lock_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock)
    assert lock.count("--hash=sha256:") > 100
