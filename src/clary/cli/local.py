"""`clary env` and `clary keys`: commands on the data directory; no server need run."""

import json
from dataclasses import replace
from datetime import UTC
from urllib.parse import urlsplit

from clary.cli import shell
from clary.cli.output import print_table, stderr, stdout
from clary.errors import ConfigurationError
from clary.settings import Settings, parse_settings, run_dir
from clary.signing.keys import AccessKey, KeyFile

ANY_CREDENTIAL = "clary"
"""What clients sign with where any signature will do: SDKs refuse to send a request without."""


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment of a client of the server on this data directory.

    The server that runs there knows best, for its flags may differ from what the settings say
    now. The key is the oldest one.
    """
    server = running_settings(settings).server
    key = next(iter(load_keys(settings)), None)
    return shell.variables(
        host=server.host,
        port=server.port,
        access_key=key.id if key else ANY_CREDENTIAL,
        secret_key=key.secret if key else ANY_CREDENTIAL,
        region=server.region,
    )


def running_settings(settings: Settings) -> Settings:
    """Return the settings of the server that runs on the data directory, else the given ones."""
    sockets = run_dir(settings.data_dir)
    if not (sockets / "supervisor.sock").exists():
        return settings
    try:
        running = parse_settings((sockets / "settings.json").read_text())
        url = json.loads((sockets / "server.json").read_text())["url"]
        # The port that it got, where the settings say 0.
        server = replace(running.server, port=urlsplit(url).port or running.server.port)
        return replace(running, server=server)
    except (OSError, ValueError, LookupError, TypeError, ConfigurationError):
        # Half a run directory is what a crash leaves; the given settings are as good as any.
        return settings


def create_key(settings: Settings, principal: str) -> None:
    """Make a key and print it, ready for a shell or a CI's secret store."""
    key = _file(settings).create(principal)
    stdout().print(f"AWS_ACCESS_KEY_ID={key.id}", markup=False)
    stdout().print(f"AWS_SECRET_ACCESS_KEY={key.secret}", markup=False)
    if not settings.auth_is_on:
        stderr().print(
            "Authentication is off; start the server with CLARY_AUTH=on to ask for keys.",
            style="yellow",
        )


def list_keys(settings: Settings) -> None:
    """Print the keys, without secrets."""
    keys = load_keys(settings)
    if not keys:
        stderr().print("There are no keys. Make one with `clary keys create`.", markup=False)
        return
    rows = [(key.id, key.principal, f"{key.created_at.astimezone(UTC):%Y-%m-%d}") for key in keys]
    print_table(("KEY", "FOR", "CREATED"), rows, stdout())


def delete_key(settings: Settings, key_id: str) -> None:
    """Delete a key.

    Raises:
        NotFound: There is no such key.
    """
    _file(settings).delete(key_id)
    stdout().print(f"deleted {key_id}", markup=False)


def load_keys(settings: Settings) -> list[AccessKey]:
    """Return the keys, the oldest first."""
    return sorted(_file(settings).load().values(), key=lambda key: key.created_at)


def _file(settings: Settings) -> KeyFile:
    return KeyFile(settings.data_dir / "keys.json")
