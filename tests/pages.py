"""The project's pages, for tests that hold them to their word."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pages() -> list[Path]:
    """Every page that people read."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """Return the shell commands of a page, without their comments."""
    lines = "".join(blocks(page, "sh")).splitlines()
    return [bare for line in lines if (bare := re.sub(r"\s{2,}#.*", "", line).strip())]


def anchors(page: Path) -> set[str]:
    """Return what can be linked to in a page: its headings, spelled as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links to files of this project."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
