"""What the benchmarks need: wrk and nginx from Debian, FastAPI in a venv of its own."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import PEERS

DEBIAN = {"wrk": "wrk", "nginx": "nginx-light"}
PEER_PACKAGES = (
    *("fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools"),
    *("scikit-learn", "numpy", "scipy", "joblib"),
)


class Missing(Exception):
    """Something is not there and cannot be installed."""


def install() -> None:
    """Install what is missing.

    Raises:
        Missing: A program is missing and cannot be installed.
    """
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if packages := [package for tool, package in DEBIAN.items() if not shutil.which(tool)]:
        _install_from_debian(packages)
    _install_peers()


def _install_from_debian(packages: list[str]) -> None:
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise Missing(
            f"The benchmarks need {' and '.join(packages)}. Install them, on Debian by: "
            f"sudo {' '.join(command)}"
        )
    print(f"installing {', '.join(packages)}", flush=True)
    # Debian would start nginx as a service; a policy of "no" keeps it from doing so.
    policy = Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    if is_ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["apt-get", "update"], command):
            done = subprocess.run(step, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise Missing(f"{' '.join(step)} failed:\n{done.stderr.strip()}")
    finally:
        if is_ours:
            policy.unlink()


def _install_peers() -> None:
    """The same versions as beside Clary, so that only the way to the model differs."""
    pins = [f"{package}=={version(package)}" for package in PEER_PACKAGES]
    make_environment("fastapi", pins)


def make_environment(name: str, requirements: list[str], *options: str) -> None:
    """Make a virtual environment of a peer's own, unless it is there.

    Raises:
        Missing: A package is not to be had.
    """
    directory = PEERS / name
    stamp = directory / "installed.txt"
    if stamp.exists() and stamp.read_text() == "\n".join(requirements):
        return
    print(f"installing {requirements[0]} into .peers/{name}", flush=True)
    uv = str(Path(sys.executable).with_name("uv"))
    python = str(directory / "bin" / "python")
    for step in (
        [uv, "venv", "--quiet", "--clear", "--seed", "--python", sys.executable, str(directory)],
        # By pip, which finds a torch that was put beside the registry for machines without a GPU.
        [python, "-m", "pip", "install", "--quiet", *options, *requirements],
    ):
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"{' '.join(step)} failed:\n{done.stderr.strip()}")
    stamp.write_text("\n".join(requirements))


def versions() -> dict[str, str]:
    """Return the versions of everything that is measured."""
    printed = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    names = ("fastapi", "uvicorn", "uvloop", "httptools", "scikit-learn", "boto3")
    return {
        "clary": version("clary"),
        "nginx": printed.strip().rpartition("/")[2],
        "wrk": wrk.split()[1] if wrk else "",
        **{name: version(name) for name in names},
    }
