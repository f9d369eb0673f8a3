"""The AWS CLI as it comes, with nothing but `eval "$(clary env)"` before it."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from server import CLARY, Server

AWS = shutil.which("aws")

needs_aws = pytest.mark.skipif(AWS is None, reason="there is no aws on the PATH")


class AwsCli:
    """Runs commands in a shell that has evaluated what ``clary env`` printed.

    Args:
        server: Which server's.
        directory: Where the commands run.
    """

    def __init__(self, server: Server, directory: Path) -> None:
        self.directory = directory
        self._environ = _shell(server)

    def __call__(self, *arguments: str, fails: bool = False) -> str:
        """Return what a command printed, on standard error where it is to fail."""
        assert AWS is not None
        done = subprocess.run(
            [AWS, *arguments],
            env=self._environ,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        # Version 1 and version 2 do not fail with the same status.
        assert (done.returncode != 0) == fails, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    def line(self, line: str) -> Any:
        """Run a command as it is typed, without its ``aws``; return its answer, None without."""
        told = self(*shlex.split(line), "--output", "json")
        return json.loads(told) if told else None


def _shell(server: Server) -> dict[str, str]:
    bare = {name: value for name, value in server.environ().items() if not name.startswith("AWS_")}
    done = subprocess.run(
        ["sh", "-euc", 'eval "$(clary env)"; exec env -0'],
        env={
            **bare,
            "PATH": f"{CLARY.parent}{os.pathsep}{bare['PATH']}",
            "CLARY_DATA_DIR": str(server.data_dir),
            # Neither this machine's profiles nor its role are to be found.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PROFILE": "of-another-account",
            "AWS_PAGER": "",
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
