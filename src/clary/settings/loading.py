"""Reads settings: defaults, then a TOML file, then environment variables, then flags."""

import json
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from clary.errors import ConfigurationError
from clary.settings.values import RunnerSettings, ServerSettings, Settings

T = TypeVar("T")

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})

SHORT_NAMES = {
    "CLARY_HOST": ("server", "host"),
    "CLARY_PORT": ("server", "port"),
    "CLARY_DATA_DIR": ("server", "data_dir"),
    "CLARY_AUTH": ("server", "auth"),
}


def load_settings(
    environ: Mapping[str, str],
    *,
    config_file: Path | None = None,
    flags: Mapping[tuple[str, str], Any] | None = None,
) -> Settings:
    """Read defaults, file, environment and flags, in that order.

    Args:
        environ: Environment variables, usually ``os.environ``.
        config_file: TOML file. Without one, ``CLARY_CONFIG``, else ``clary.toml`` in the data
            directory where it exists.
        flags: Values given on the command line, by (section, field).

    Raises:
        ConfigurationError: A value is of the wrong type, out of range, or unknown.
    """
    values: dict[str, Any] = {}
    sources: dict[tuple[str, str], str] = {}
    file = config_file or (Path(environ["CLARY_CONFIG"]) if environ.get("CLARY_CONFIG") else None)
    if file is None:
        data_dir = (flags or {}).get(("server", "data_dir")) or environ.get("CLARY_DATA_DIR")
        candidate = Path(data_dir or ServerSettings().data_dir).expanduser() / "clary.toml"
        file = candidate if candidate.is_file() else None
    if file is not None:
        values = _read_file(file)
        for section, members in values.items():
            sources["", section] = str(file)
            if section != "runners" and not isinstance(members, dict):
                raise ConfigurationError("must be a table", section, str(file))
            if isinstance(members, dict | list):
                names = members if isinstance(members, dict) else range(len(members))
                sources.update({(section, str(name)): str(file) for name in names})
    for variable, (section, name) in _variables().items():
        if variable in environ:
            values.setdefault(section, {})[name] = _parse_text(
                environ[variable], section, name, variable
            )
            sources[section, name] = variable
    for (section, name), value in (flags or {}).items():
        if value is not None:
            values.setdefault(section, {})[name] = value
            sources[section, name] = f"--{name.replace('_', '-')}"
    settings = _build(Settings, values, (), sources)
    _check(settings, sources)
    return settings


def dump_settings(settings: Settings) -> str:
    """Return the settings as JSON, for the processes of the server."""
    return json.dumps(asdict(settings), indent=1)


def parse_settings(text: str) -> Settings:
    """Return the settings that ``dump_settings`` wrote."""
    return _build(Settings, json.loads(text), (), {})


def settings_reference() -> list[tuple[str, str, Any]]:
    """Return (full name, type as text, default) of every setting, for the reference page."""
    rows = []
    for section in fields(Settings):
        if section.name == "runners":
            for member in fields(RunnerSettings):
                default = "" if member.default is MISSING else member.default
                rows.append((f"runners.{member.name}", _type_text(member.type), default))
            continue
        defaults = getattr(Settings(), section.name)
        hints = typing.get_type_hints(type(defaults))
        rows.extend(
            (
                f"{section.name}.{member.name}",
                _type_text(hints[member.name]),
                getattr(defaults, member.name),
            )
            for member in fields(defaults)
        )
    return rows


def _type_text(annotation: Any) -> str:
    return getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)


def _variables() -> dict[str, tuple[str, str]]:
    names = {
        f"CLARY_{section.name}_{member.name}".upper(): (section.name, member.name)
        for section in fields(Settings)
        if section.name != "runners"
        for member in fields(typing.get_type_hints(Settings)[section.name])
    }
    return {**names, **SHORT_NAMES}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigurationError(f"settings file cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {file} is no TOML: {error}") from error


def _parse_text(text: str, section: str, name: str, variable: str) -> Any:
    """Turn an environment variable's text into a value of the field's type."""
    kind = typing.get_type_hints(typing.get_type_hints(Settings)[section])[name]
    setting = f"{section}.{name}"
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off", ""):
            return False
        raise ConfigurationError(f"{text!r} is not true or false", setting, variable)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ConfigurationError(f"{text!r} is not a number", setting, variable) from None
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(kind) is dict:
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"no JSON object: {error}", setting, variable) from error
    return text


def _build(
    kind: type[T], values: Any, path: tuple[str, ...], sources: Mapping[tuple[str, str], str]
) -> T:
    if not isinstance(values, Mapping):
        raise ConfigurationError("must be a table", ".".join(path), _source(sources, path))
    hints = typing.get_type_hints(kind)
    unknown = set(values) - set(hints)
    if unknown:
        name = min(unknown)
        known = ", ".join(sorted(hints))
        source = _source(sources, (*path, name))
        raise ConfigurationError(
            f"unknown setting; known here: {known}", ".".join((*path, name)), source
        )
    arguments = {}
    for name, value in values.items():
        where = (*path, name)
        arguments[name] = _convert(hints[name], value, where, sources, _source(sources, where))
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigurationError(str(error), ".".join(path)) from error


def _source(sources: Mapping[tuple[str, str], str], path: tuple[str, ...]) -> str | None:
    """Return where a value came from: a file, a variable, a flag."""
    if not path:
        return None
    return sources.get((path[0], path[1]) if len(path) > 1 else ("", path[0]))


def _convert(
    kind: Any,
    value: Any,
    path: tuple[str, ...],
    sources: Mapping[tuple[str, str], str],
    source: str | None,
) -> Any:
    setting = ".".join(path)
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _build(kind, value, path, sources)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigurationError("must be a list", setting, source)
        inner = get_args(kind)[0]
        return tuple(
            _convert(inner, item, (*path, str(i)), sources, source) for i, item in enumerate(value)
        )
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigurationError("must be a table", setting, source)
        inner = get_args(kind)[1]
        return {
            str(k): _convert(inner, v, (*path, str(k)), sources, source) for k, v in value.items()
        }
    if origin is Literal:
        if value not in get_args(kind):
            allowed = ", ".join(repr(option) for option in get_args(kind))
            raise ConfigurationError(f"{value!r} is not one of {allowed}", setting, source)
        return value
    if origin is types.UnionType:  # pragma: no cover - no setting is a union today
        raise AssertionError(f"{setting}: unions are not supported")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigurationError(f"{value!r} is not of type {kind.__name__}", setting, source)
    return value


def _check(settings: Settings, sources: Mapping[tuple[str, str], str]) -> None:
    """Stop on values that no part could work with."""

    def refuse(section: str, name: str, message: str) -> None:
        raise ConfigurationError(message, f"{section}.{name}", sources.get((section, name)))

    server = settings.server
    if not 0 <= server.port <= 65535:
        refuse("server", "port", f"{server.port} is not between 0 and 65535")
    if not (server.account.isdigit() and len(server.account) == 12):
        refuse("server", "account", f"{server.account!r} is not 12 digits")
    if server.host not in LOOPBACK_HOSTS and server.auth != "on" and not server.insecure:
        refuse(
            "server",
            "host",
            f"{server.host} is not a loopback address, and anyone who can reach it could run "
            "code as you. Turn authentication on (CLARY_AUTH=on, then `clary keys create`), or "
            "say --insecure",
        )
    for section in ("gateway", "router", "fleet", "capture", "events", "otel"):
        for member in fields(getattr(settings, section)):
            value = getattr(getattr(settings, section), member.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                refuse(section, member.name, f"{value} is less than 0")
    if settings.otel.sample_ratio > 1:
        refuse("otel", "sample_ratio", f"{settings.otel.sample_ratio} is more than 1")
    endpoint = settings.otel.endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        refuse("otel", "endpoint", f"{endpoint!r} is no URL of the form http://host:port")
    if endpoint and settings.otel.metric_interval_s < 1:
        interval_s = settings.otel.metric_interval_s
        refuse("otel", "metric_interval_s", f"{interval_s} is less than 1")
