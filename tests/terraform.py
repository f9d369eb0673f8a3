"""Terraform stacks, for tests: written, applied to a server, planned again, destroyed."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

PLUGINS = os.environ.get("CLARY_TERRAFORM_PLUGINS", "")

NEEDS_TERRAFORM = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PLUGINS or shutil.which("terraform") is None,
        reason="needs terraform, and CLARY_TERRAFORM_PLUGINS: the directory of its AWS provider",
    ),
]
"""Marks of a module whose tests run Terraform."""

PROVIDER = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
provider "aws" {
  region = "us-east-1"
}
"""


class Stack:
    """A directory with a definition, and the commands of Terraform that act on it.

    Args:
        directory: Where the files lie; made when it is not there.
        environ: Variables of the commands, which name the server and its keys.
        definition: Resources, without the provider.
        timeout_s: For one command: the provider sleeps 30 s between looks at what is not ready.
    """

    def __init__(
        self,
        directory: Path,
        environ: Mapping[str, str],
        definition: str,
        *,
        timeout_s: float = 150.0,
    ) -> None:
        self.directory = directory
        self._environ = {**environ, "CHECKPOINT_DISABLE": "1"}
        self._timeout_s = timeout_s
        directory.mkdir(exist_ok=True)
        self.write(definition)
        self.run("init", f"-plugin-dir={PLUGINS}")

    def write(self, definition: str) -> None:
        """Put another definition in the place of the one that is there."""
        (self.directory / "main.tf").write_text(PROVIDER + definition)

    def run(self, command: str, *options: str) -> str:
        """Run a command that must succeed, and return what it printed."""
        done = subprocess.run(
            ["terraform", command, "-no-color", *options],
            cwd=self.directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self._timeout_s,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def apply(self, **variables: str) -> str:
        """Make it so; returns the line that counts what was added, changed and destroyed."""
        printed = self.run("apply", "-auto-approve", *_options(variables))
        return next(line for line in printed.splitlines() if line.startswith("Apply complete!"))

    def assert_no_changes(self, **variables: str) -> None:
        """Plan again: what the provider wrote, it must read back without a difference."""
        printed = self.run("plan", *_options(variables))
        assert "No changes." in printed, printed

    def destroy(self, **variables: str) -> str:
        """Take all of it away; returns the line that counts."""
        printed = self.run("destroy", "-auto-approve", *_options(variables))
        return next(line for line in printed.splitlines() if line.startswith("Destroy complete!"))


def _options(variables: Mapping[str, str]) -> list[str]:
    return [f"-var={name}={value}" for name, value in variables.items()]
