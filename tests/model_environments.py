"""Python environments for models that need more than the tests have, made by uv on the spot."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from server import CLARY

TORCH = "torch==2.13.0"
UV = CLARY.with_name("uv")


def torch_wheels() -> str:
    """Return where this machine's pip finds wheels beside the index; skip without torch there.

    Without that the index would be asked, and gives torch with gigabytes of CUDA.
    """
    named = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS") or ""
    if not named and (pip := shutil.which("pip")):
        asked = subprocess.run(
            [pip, "config", "get", "global.find-links"], capture_output=True, text=True, timeout=60
        )
        named = asked.stdout
    places = named.replace(",", " ").split()
    version = TORCH.replace("==", "-")
    if not any(list(Path(place).glob(f"{version}*.whl")) for place in places):
        pytest.skip(f"no wheel of {TORCH} lies where pip's find-links point")
    return ",".join(places)


def make_environment(directory: Path, packages: Sequence[str], *more: Sequence[str]) -> Path:
    """Make an environment, and return its interpreter; skip where a package cannot be had.

    Args:
        directory: Where.
        packages: Installed with what they need; torch from where ``torch_wheels`` finds it.
        more: Arguments of further installations, one after another.
    """
    environ = dict(os.environ)
    if TORCH in packages:
        environ["UV_FIND_LINKS"] = torch_wheels()
    python = directory / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", str(directory)], check=True)
    for arguments in (packages, *more):
        done = subprocess.run(
            [UV, "pip", "install", "--quiet", "--python", str(python), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode != 0:
            pytest.skip(f"{' '.join(arguments)} cannot be installed: {done.stderr[-500:]}")
    return python
