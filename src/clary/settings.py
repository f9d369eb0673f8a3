"""Every setting, its default and its unit.

Read once, when a command starts: defaults, then a TOML file, then environment variables, then
flags. The result is handed to the processes of the server as a file, so that all of them agree.

An environment variable for ``gateway.max_body_bytes`` is ``CLARY_GATEWAY_MAX_BODY_BYTES``. A few
have short names that scripts use: ``CLARY_HOST``, ``CLARY_PORT``, ``CLARY_DATA_DIR``,
``CLARY_AUTH``.
"""

import json
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from clary.errors import ConfigurationError

T = TypeVar("T")

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens, who may use it, and who it says it is."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 25279
    """TCP port to listen on. 0 takes a free one."""

    data_dir: str = "~/.clary"
    """Directory that holds everything durable: database, objects, keys, logs."""

    auth: Literal["", "on", "open"] = ""
    """``on`` verifies signatures against the keys of ``clary keys``; ``open`` takes any
    credentials. Empty: open, and only loopback addresses can be listened on."""

    insecure: bool = False
    """Allow ``open`` on an address other than loopback. Anyone who can reach it can run code."""

    allowed_hosts: tuple[str, ...] = ()
    """Host names, beside loopback ones, that requests may name in ``open`` mode. A leading
    ``*.`` matches any sub-domain."""

    account: str = "123456789012"
    """Account id in ARNs."""

    region: str = "us-east-1"
    """Region in ARNs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The front door: limits and time-outs of the HTTP side."""

    processes: int = 0
    """Gateway processes. 0: one for every four cores, at least one."""

    max_body_bytes: int = 25 * 1024 * 1024
    """Longest body of an invocation. Longer ones are answered 413. AWS: 25 MB (container.md)."""

    max_control_body_bytes: int = 16 * 1024 * 1024
    """Longest body of a request to a control API."""

    max_header_bytes: int = 64 * 1024
    """Longest request line and headers together."""

    max_headers: int = 100
    """Most headers in one request."""

    header_timeout_s: float = 10.0
    """Longest time to send the request line and headers, in seconds."""

    body_idle_timeout_s: float = 30.0
    """Longest pause inside a request's body, in seconds."""

    keep_alive_s: float = 75.0
    """How long an idle connection is kept, in seconds."""

    control_wait_s: float = 5.0
    """How long a request waits for control or objects to come back, in seconds, before 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """How invocations find their instance."""

    invocation_timeout_s: float = 60.0
    """Time for one real-time invocation, in seconds (container.md 3)."""

    stream_timeout_s: float = 480.0
    """Time for one response stream from request to last part, in seconds (container.md 5)."""

    stream_idle_timeout_s: float = 480.0
    """Longest pause of a model between two parts of a response stream, in seconds. AWS limits
    only the whole stream."""

    client_stall_timeout_s: float = 60.0
    """How long a client may leave a response stream unread while its buffers are full, in
    seconds, before its connection is closed."""

    instance_wait_s: float = 10.0
    """How long an invocation waits for a first instance of an InService endpoint, in seconds."""

    max_step_body_bytes: int = 25 * 1024 * 1024
    """Longest body that one container of a pipeline hands to the next, in bytes. AWS's guide of
    2023 says 5 MB (container.md 3)."""

    max_queue_per_worker: int = 1024
    """Most open requests of one worker. More are refused with 503."""

    shadow_max_outstanding: int = 64
    """Most open copies of a shadow variant, in each gateway process. More are dropped."""

    shadow_max_bytes: int = 67108864
    """Most bytes of bodies in open copies of a shadow variant, in each gateway process. A copy that
    would pass it is dropped."""

    pack_below_s: float = 0.00004
    """Mean time in the handler, in seconds, below which an instance's first worker takes all
    requests: a second process cannot help a handler that is faster than the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """What runs the containers of an image.

    One row of the image table; the first row that matches wins, rows of the settings file before
    the built-in ones.
    """

    match: str
    """Image URI: exact, a glob with ``*`` and ``?``, or a regular expression as ``/.../``."""

    runner: Literal["handler", "command", "container"] = "handler"
    """``handler``: the functions of ``inference.py``; ``command``: a server of the user's own
    on ``$SAGEMAKER_BIND_TO_PORT``; ``container``: an OCI image (not built yet)."""

    python: str = ""
    """Interpreter of the base environment. Empty: the one that Clary is installed in."""

    command: tuple[str, ...] = ()
    """For ``command``: program and arguments."""

    app: str = ""
    """For ``command``: an ASGI application as ``module:attribute``, instead of a command."""

    code: str = ""
    """Local directory with code that the image brings (``inference.py`` or the server)."""

    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables that the image sets; those of the model win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """Instances on this machine."""

    startup_timeout_s: float = 480.0
    """Time for a container to answer its first ping, in seconds (container.md 2)."""

    download_timeout_s: float = 3600.0
    """Time to fetch and unpack one model, in seconds."""

    ping_interval_s: float = 5.0
    """Pause between two pings of a healthy container, in seconds."""

    ping_timeout_s: float = 2.0
    """Time for one ping, in seconds."""

    unhealthy_after: int = 3
    """Failed pings in a row after which a worker is replaced."""

    stop_timeout_s: float = 30.0
    """Time between SIGTERM and SIGKILL, in seconds."""

    load_attempts: int = 3
    """Starts of a worker that ends while loading, before the instance has failed."""

    load_attempts_within_s: float = 10.0
    """No new start of a failed load later than this after the first, in seconds."""

    hung_grace_s: float = 5.0
    """How much longer than the invocation limit a handler may block its worker, in seconds,
    before the worker is replaced."""

    max_workers: int = 0
    """Most workers of one instance unless the model says a number. 0: the cores of this machine."""

    multi_model_memory_mib: int = 0
    """Memory of the loaded models of one instance of a multi-model endpoint, in MiB; beyond it the
    least recently used are unloaded. 0: the memory of the instance type where ``capacity`` is
    ``strict``, else four fifths of this machine's."""

    multi_model_max_models: int = 0
    """Most loaded models of one instance of a multi-model endpoint. 0: as many as memory holds."""

    model_load_timeout_s: float = 360.0
    """Time to fetch and load one model of a multi-model endpoint, in seconds (container.md 7). A
    call waits for it no longer than calls may take; then it is told that the model is not ready."""

    max_artifact_bytes: int = 100 * 1024**3
    """Most bytes that a model archive may unpack to."""

    max_artifact_files: int = 200_000
    """Most files in a model archive."""

    max_compression_ratio: int = 1000
    """Most bytes out of one byte of a gzip archive, measured once 100 MB are out."""

    cache_max_age_s: float = 30 * 86400.0
    """Unpacked artifacts and environments that no instance has used for so long are removed, in
    seconds."""

    cache_max_bytes: int = 100 * 1024**3
    """Most bytes of unpacked artifacts, and as many of environments; those that no instance uses
    are removed beyond it, least recently used first."""

    capacity: Literal["labels", "strict"] = "labels"
    """``labels``: instance types are names. ``strict``: they reserve vCPUs, memory and GPUs of
    this machine, and what does not fit is InsufficientInstanceCapacity."""

    max_instances: int = 1000
    """Account quota: instances over all endpoints."""

    instance_type_quotas: dict[str, int] = field(default_factory=dict)
    """Account quota for single instance types, such as ``"ml.g5.xlarge" = 2``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Object storage."""

    s3_endpoint_url: str = ""
    """Another S3 to use instead of the embedded one. Credentials and region come from the
    standard AWS environment variables and files of the server."""

    file_roots: tuple[str, ...] = ("/",)
    """Directories that ``file://`` artifacts and local paths may lie in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The state database."""

    url: str = ""
    """SQLAlchemy URL. Empty: SQLite in the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    server: ServerSettings = field(default_factory=ServerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    runners: tuple[RunnerSettings, ...] = ()

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return Path(self.server.data_dir).expanduser().absolute()

    @property
    def auth_is_on(self) -> bool:
        """Whether signatures are verified."""
        return self.server.auth == "on"


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
    for section in ("gateway", "router", "fleet"):
        for member in fields(getattr(settings, section)):
            value = getattr(getattr(settings, section), member.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                refuse(section, member.name, f"{value} is less than 0")


def run_dir(data_dir: Path) -> Path:
    """Return the directory for sockets of a running server, not yet made.

    It lies in the data directory, unless that has so long a path that Unix sockets (108 bytes)
    would not fit: then it is a private directory of the user under the system's temporary one.
    """
    inside = data_dir / "run"
    if len(str(inside)) <= 60:
        return inside
    import hashlib  # noqa: PLC0415 - rarely needed, and start-up time counts

    digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - made with 0700
    return base / f"clary-{os.getuid()}-{digest}"
