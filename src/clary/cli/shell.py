"""`clary env`: the lines that point a shell's AWS clients at this server."""

import re
import shlex
from collections.abc import Mapping

SHELLS = ("sh", "fish", "powershell")

UNSET = ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
"""What would win over, or break, the credentials that are set."""


def variables(
    *, host: str, port: int, access_key: str, secret_key: str, region: str
) -> dict[str, str]:
    """Return the variables that every AWS SDK reads.

    ``AWS_REGION`` is what most SDKs read, ``AWS_DEFAULT_REGION`` what boto3 does.
    """
    return {
        "AWS_ENDPOINT_URL": f"http://{reachable_host(host)}:{port}",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }


def reachable_host(host: str) -> str:
    """Return a host to connect to, for an address to listen on."""
    if host in ("", "0.0.0.0", "localhost"):
        return "127.0.0.1"
    if host.strip("[]") == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def script(values: Mapping[str, str], shell: str) -> str:
    """Return lines for the shell to evaluate; any value comes through unharmed."""
    if shell == "fish":
        lines = [f"set -e {name};" for name in UNSET]
        lines += [f"set -gx {name} {_fish(value)};" for name, value in values.items()]
    elif shell == "powershell":
        lines = [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in UNSET]
        lines += [f"$Env:{name} = {_powershell(value)}" for name, value in values.items()]
    else:
        lines = [f"unset {' '.join(UNSET)}"]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _fish(value: str) -> str:
    return value if re.fullmatch(r"[\w@%+=:,./-]+", value, re.ASCII) else _quoted_for_fish(value)


def _quoted_for_fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _powershell(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
