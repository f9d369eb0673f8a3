"""Python environments for models: a base interpreter, and what ``requirements.txt`` adds to it.

As in AWS's containers, requirements are installed *over* what is there: what the base already has
in a version that fits stays as it is, and is not downloaded again. Three steps, all by ``uv``:

1. resolve the requirements as if they were installed into the base (a dry run), which gives the
   packages that are missing or have the wrong version. Often that is none: the base will do;
2. make a virtual environment and install those, and only those, into it;
3. layer it over the base: a ``.pth`` file in it adds the base's own site directories behind it.

So the base is never changed, and what was installed for the model wins over it. Environments are
kept by the digest of the requirements and of the base, and shared.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clary.errors import PermanentError
from clary.fleet.cache import Cache

LAYER_FILE = "_clary_base.pth"

_PROBE = """
import json, site, sys, sysconfig
paths = sysconfig.get_paths()
sites = dict.fromkeys([paths["purelib"], paths["platlib"], *site.getsitepackages()])
if site.ENABLE_USER_SITE:
    sites[site.getusersitepackages()] = None
print(json.dumps({"version": list(sys.version_info), "prefix": sys.prefix,
                  "base": sys.base_prefix, "sites": list(sites)}))
"""
_PROBE_TIMEOUT_S = 20.0
_MIN_PYTHON = (3, 9)
_MAX_MESSAGE = 700
_NO_CHANGES = "Would make no changes"
_CHANGE = re.compile(r"^ [+~] ([A-Za-z0-9._-]+)(?:==(\S+)| @ .*)?(?: \(from .*\))?$", re.MULTILINE)
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TMPDIR|XDG_\w+|UV_\w+|PIP_\w+|NETRC|SSL_CERT_\w+|\w+_CA_BUNDLE"
    r"|CC|CXX|CFLAGS|LDFLAGS|CUDA_HOME|(?:HTTPS?|NO|ALL)_PROXY|(?:https?|no|all)_proxy"
)
"""Variables that ``uv`` gets: building a package may run anybody's code, so that no other does."""

_PACKAGE_MARKS = (".dist-info", ".egg-info", ".egg-link", ".pth")

_FILE_WORDS = re.compile(
    r"^\s*(-[erc]\b|--(editable|requirement|constraint)\b|\.|/|file:)|@\s*file:"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What is known of a base interpreter."""

    python: str
    sites: tuple[str, ...]
    """Its site directories, in the order of its path."""

    identity: str
    """Changes when packages come or go, so that environments are resolved anew."""


class Environments:
    """The environments of this machine.

    Args:
        cache: Where they are kept.
        uv: Path of the ``uv`` program.
        environ: The server's own variables. Settings of indexes, proxies, certificates and
            compilers (``_PASSED_ON``) are handed on to ``uv``.
    """

    def __init__(self, cache: Cache, uv: str, environ: Mapping[str, str]) -> None:
        self._cache = cache
        self._uv = uv
        self._environ = {
            **{name: value for name, value in environ.items() if _PASSED_ON.fullmatch(name)},
            **{"UV_NO_PROGRESS": "1", "NO_COLOR": "1"},
        }
        self._bases: dict[tuple[str, int], dict[str, object]] = {}

    async def python_for(
        self, base_python: str, code_dir: Path, *, code_key: str, holder: str
    ) -> str:
        """Return the interpreter for a model's code; build its environment where it is missing.

        Args:
            base_python: Interpreter of the base environment.
            code_dir: Where ``requirements.txt`` may lie.
            code_key: Digest of the code, for requirements that point to files in it.
            holder: Whoever uses the environment.

        Raises:
            PermanentError: The requirements cannot be resolved or installed (with ``uv``'s own
                message), or the base interpreter cannot be used.

        Cancelling ends ``uv``, when nobody else waits for the same environment.
        """
        requirements = code_dir / "requirements.txt"
        try:
            text = requirements.read_text("utf-8-sig")
        except FileNotFoundError:
            return base_python
        except (OSError, UnicodeDecodeError) as error:
            raise PermanentError(f"requirements.txt cannot be read: {error}") from error
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
        if not any(lines):
            return base_python
        base = await self.look_at(base_python)
        points_to_files = any(_FILE_WORDS.search(line) for line in lines if line)
        key = _digest(text, base.identity, code_key if points_to_files else "")

        async def make(entry: Path) -> None:
            await self._build(base, requirements, entry)

        entry = await self._cache.get(key, make, holder=holder)
        python = entry / "bin" / "python"
        # An entry without one says that the base has everything already.
        return str(python) if python.exists() else base_python

    async def look_at(self, python: str) -> Base:
        """Return what an interpreter is and where its packages are.

        Raises:
            PermanentError: It cannot be used.
        """
        try:
            stamp = (python, os.stat(python).st_mtime_ns)
        except OSError as error:
            raise PermanentError(
                f"the interpreter {python} cannot be used: {error.strerror}. Correct python in "
                "the image's row in clary.toml"
            ) from error
        facts = self._bases.get(stamp)
        if facts is None:
            facts = self._bases[stamp] = await self._probe(python)
        sites = tuple(str(path) for path in facts["sites"])  # type: ignore[attr-defined]
        identity = _digest(
            json.dumps(facts, sort_keys=True),
            python,
            *(_packages(path) for path in sites),
        )
        return Base(python=python, sites=sites, identity=identity)

    async def _probe(self, python: str) -> dict[str, object]:
        status, output = await self._run([python, "-c", _PROBE], timeout_s=_PROBE_TIMEOUT_S)
        try:
            facts = json.loads(output.splitlines()[-1])
            version = tuple(facts["version"][:2])
        except (ValueError, LookupError, TypeError):
            raise PermanentError(
                f"the interpreter {python} cannot be used (exit status {status}): {_tail(output)}"
            ) from None
        if version < _MIN_PYTHON:
            raise PermanentError(
                f"the interpreter {python} is Python {version[0]}.{version[1]}; workers need "
                "3.9 or newer"
            )
        return dict(facts)

    async def _build(self, base: Base, requirements: Path, entry: Path) -> None:
        dry = await self._pip(
            base.python, ["--dry-run", "--requirement", str(requirements)], requirements.parent
        )
        if _NO_CHANGES in dry:
            return
        changed = {_normalized(name): version for name, version in _CHANGE.findall(dry)}
        await self._uv_run(
            [
                *("venv", "--quiet", "--no-project", "--relocatable", "--allow-existing"),
                *("--python", base.python, str(entry)),
            ],
            requirements.parent,
        )
        python = entry / "bin" / "python"
        kept = sorted(await self._installed(base) - set(changed))
        pins = sorted(f"{name}=={version}" for name, version in changed.items() if version)
        # What the dry run chose, and nothing else; the requirements themselves are named again, so
        # that their indexes, hashes and local files count.
        (entry / "kept.txt").write_text("\n".join(kept))
        (entry / "pins.txt").write_text("\n".join(pins))
        await self._pip(
            str(python),
            [
                *("--requirement", str(requirements)),
                *("--excludes", str(entry / "kept.txt")),
                *("--constraints", str(entry / "pins.txt")),
            ],
            requirements.parent,
        )
        site = next((entry / "lib").glob("python*/site-packages"))
        # `addsitedir` rather than bare paths: the base's own .pth files (editable installs) count.
        lines = [f"import site; site.addsitedir({path!r})" for path in base.sites]
        (site / LAYER_FILE).write_text("\n".join(lines) + "\n")

    async def _installed(self, base: Base) -> set[str]:
        output = await self._uv_run(
            ["pip", "list", "--quiet", "--format", "json", "--python", base.python], Path("/")
        )
        return {_normalized(package["name"]) for package in json.loads(output or "[]")}

    async def _pip(self, python: str, arguments: Sequence[str], cwd: Path) -> str:
        return await self._uv_run(
            ["pip", "install", "--break-system-packages", "--python", python, *arguments], cwd
        )

    async def _uv_run(self, arguments: Sequence[str], cwd: Path) -> str:
        status, output = await self._run([self._uv, *arguments], cwd=cwd)
        if status != 0:
            raise PermanentError(
                f"the packages of requirements.txt cannot be installed: {_tail(output)}"
            )
        return output

    async def _run(
        self, argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float | None = None
    ) -> tuple[int, str]:
        """Run a program; return its exit status and all that it printed."""
        try:
            async with _running(argv, self._environ, cwd) as process:
                async with asyncio.timeout(timeout_s):
                    output, _ = await process.communicate()
        except OSError as error:
            raise PermanentError(f"{argv[0]} cannot be run: {error.strerror}") from error
        except TimeoutError:
            return -1, f"no answer within {timeout_s:.0f} s"
        return process.returncode or 0, output.decode(errors="replace")


@contextlib.asynccontextmanager
async def _running(
    argv: Sequence[str], environ: Mapping[str, str], cwd: Path | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a program that is dead when the block is left, however that is."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _packages(site: str) -> str:
    """Return what changes when a package in a site directory comes, goes or is installed again.

    Not the directory's own time: Python's first import of a module there changes that too.
    """
    try:
        with os.scandir(site) as entries:
            marks = [e for e in entries if e.name.endswith(_PACKAGE_MARKS)]
            return "\n".join(sorted(f"{mark.path} {mark.stat().st_mtime_ns}" for mark in marks))
    except OSError:
        return ""


def _normalized(name: str) -> str:
    """As PEP 503 compares names of packages."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _tail(output: str) -> str:
    """Return the end of what a program printed, for a message."""
    text = output.strip()
    # The resolver's reasons start here; what comes before is progress.
    start = max(text.find("error:"), 0)
    text = " ".join(text[start:].split())
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
