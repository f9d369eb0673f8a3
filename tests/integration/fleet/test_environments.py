import asyncio
import os
import subprocess
import sys
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from uv import find_uv_bin

from clary.errors import PermanentError
from clary.fleet.cache import Cache
from clary.fleet.environments import Environments


class Bench:
    """Environments in a directory of their own, and an index made of wheels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wheels = directory / "wheels"
        self.wheels.mkdir()
        self.code = directory / "code"
        self.code.mkdir()
        self.environments = self.open()
        self.base = sys.executable

    def open(self) -> Environments:
        self.cache = Cache(self.directory / "environments")
        self.cache.open()
        environ = {n: v for n, v in os.environ.items() if not n.startswith(("UV_", "PIP_"))}
        environ["UV_CACHE_DIR"] = str(self.directory / "uv-cache")
        return Environments(self.cache, find_uv_bin(), environ)

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        asyncio.run(story())  # type: ignore[arg-type]

    def wheel(self, name: str, version: str, *, needs: str = "") -> None:
        file = self.wheels / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(f"{name}.py", f"version = {version!r}\n")
            archive.writestr(
                f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else "")
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")

    async def python_for(self, *requirements: str, holder: str = "i-1") -> str:
        lines = ["--no-index", f"--find-links {self.wheels}", *requirements]
        (self.code / "requirements.txt").write_text("\n".join(lines))
        return await self.environments.python_for(self.base, self.code, code_key="", holder=holder)

    def entries(self) -> list[str]:
        return [path.name for path in self.cache.directory.iterdir()]


def version_of(python: str, module: str) -> str:
    code = f"import {module} as m; print(getattr(m, 'version', None) or m.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_requirements_the_base_is_used(bench: Bench) -> None:
    async def story() -> None:
        python = await bench.environments.python_for(
            bench.base, bench.code, code_key="", holder="i-1"
        )
        assert python == bench.base
        assert await bench.python_for("# nothing but a comment", "") != ""

    bench.run(story)


def test_requirements_are_layered_over_the_base(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0", needs="clarydep")
        bench.wheel("clarydep", "2.0")
        python = await bench.python_for("clarytiny")

        assert python != bench.base
        assert version_of(python, "clarytiny") == "1.0"
        assert version_of(python, "clarydep") == "2.0"
        # What is installed beside Clary is there too, editable installs included.
        assert version_of(python, "httptools") == version_of(bench.base, "httptools")
        assert "ModuleNotFoundError" not in version_of(python, "clary.errors")
        assert "ModuleNotFoundError" in version_of(bench.base, "clarytiny")

    bench.run(story)


def test_what_requirements_install_wins_over_the_base(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("sniffio", "99.0")
        bench.wheel("idna", "99.0")
        python = await bench.python_for("idna==99.0")

        assert version_of(python, "idna") == "99.0"
        assert version_of(bench.base, "idna") != "99.0"

    bench.run(story)


def test_what_the_base_has_is_not_installed_again(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0", needs="idna")
        # No wheel of either is there: the base's own will do.
        assert await bench.python_for("httptools", "idna>=1") == bench.base
        python = await bench.python_for("clarytiny", "httptools")

        assert version_of(python, "clarytiny") == "1.0"
        site = next((Path(python).parents[1] / "lib").glob("python*/site-packages"))
        assert not (site / "idna").exists()

    bench.run(story)


def test_an_environment_is_built_once_and_kept(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0")
        pythons = await asyncio.gather(
            *(bench.python_for("clarytiny", holder=f"i-{n}") for n in range(4))
        )
        assert len(set(pythons)) == 1
        built = Path(pythons[0]).parents[1].stat().st_ctime_ns

        bench.environments = bench.open()

        assert await bench.python_for("clarytiny") == pythons[0]
        assert Path(pythons[0]).parents[1].stat().st_ctime_ns == built
        assert len(bench.entries()) == 1

    bench.run(story)


def test_other_requirements_are_another_environment(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0")
        bench.wheel("clarytiny", "2.0")

        one = await bench.python_for("clarytiny==1.0")
        two = await bench.python_for("clarytiny==2.0")

        assert (version_of(one, "clarytiny"), version_of(two, "clarytiny")) == ("1.0", "2.0")

    bench.run(story)


def test_a_package_may_lie_beside_the_requirements(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0")
        wheel = "clarytiny-1.0-py3-none-any.whl"
        (bench.wheels / wheel).rename(bench.code / wheel)

        assert version_of(await bench.python_for(f"./{wheel}"), "clarytiny") == "1.0"

    bench.run(story)


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("a-package-that-is-nowhere==1.0", "a-package-that-is-nowhere"),
        ("httptools==0.0.999", "httptools==0.0.999"),
        ("this is no requirement", "requirements.txt"),
        ("-r other.txt", "other.txt"),
    ],
)
def test_what_cannot_be_resolved_fails_with_the_resolvers_message(
    bench: Bench, requirement: str, words: str
) -> None:
    async def story() -> None:
        with pytest.raises(PermanentError) as caught:
            await bench.python_for(requirement)

        assert "cannot be installed" in caught.value.message
        assert words in caught.value.message
        assert bench.entries() == []

    bench.run(story)


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/true"])
def test_a_base_that_is_no_interpreter_is_refused(bench: Bench, python: str) -> None:
    async def story() -> None:
        bench.base = python
        with pytest.raises(PermanentError, match="cannot be used"):
            await bench.python_for("clarytiny")

    bench.run(story)


def test_cancelling_ends_the_installer_and_leaves_nothing(bench: Bench) -> None:
    async def story() -> None:
        bench.wheel("clarytiny", "1.0")
        task = asyncio.create_task(bench.python_for("clarytiny"))
        while not bench.entries():  # noqa: ASYNC110 - looks at the disk
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        await bench.cache.close()

        assert task.cancelled()
        assert bench.entries() == []

    bench.run(story)


def test_a_base_is_another_one_when_its_packages_are(bench: Bench, tmp_path: Path) -> None:
    base = tmp_path / "base"
    subprocess.run([find_uv_bin(), "venv", "--quiet", str(base)], check=True)
    site = next((base / "lib").glob("python*/site-packages"))

    def identity() -> str:
        return asyncio.run(bench.environments.look_at(str(base / "bin" / "python"))).identity

    before = identity()
    (site / "__pycache__").mkdir(exist_ok=True)  # as after the first import of a module
    (site / "__pycache__" / "some.cpython-311.pyc").touch()
    os.utime(site)
    assert identity() == before

    (site / "clarytiny-1.0.dist-info").mkdir()
    after = identity()
    assert after != before
    os.utime(site / "clarytiny-1.0.dist-info", (1, 1))  # the same version, installed again
    assert identity() != after
