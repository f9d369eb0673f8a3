"""Every setting, its default and its unit.

Read once, when a command starts: defaults, then a TOML file, then environment variables, then
flags. The result is handed to the processes of the server as a file, so that all of them agree.

An environment variable for ``gateway.max_body_bytes`` is ``CLARY_GATEWAY_MAX_BODY_BYTES``. A few
have short names that scripts use: ``CLARY_HOST``, ``CLARY_PORT``, ``CLARY_DATA_DIR``,
``CLARY_AUTH``.
"""

from clary.settings.loading import (
    LOOPBACK_HOSTS,
    SHORT_NAMES,
    dump_settings,
    load_settings,
    parse_settings,
    settings_reference,
)
from clary.settings.places import run_dir
from clary.settings.telemetry import MetricSettings, OtelSettings
from clary.settings.values import (
    AsyncSettings,
    AutoscalingSettings,
    CaptureSettings,
    EventSettings,
    FleetSettings,
    GatewaySettings,
    LogSettings,
    NeighbourSettings,
    RouterSettings,
    RunnerSettings,
    ServerlessSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    StoreSettings,
)

__all__ = [
    "LOOPBACK_HOSTS",
    "SHORT_NAMES",
    "AsyncSettings",
    "AutoscalingSettings",
    "CaptureSettings",
    "EventSettings",
    "FleetSettings",
    "GatewaySettings",
    "LogSettings",
    "MetricSettings",
    "NeighbourSettings",
    "OtelSettings",
    "RouterSettings",
    "RunnerSettings",
    "ServerSettings",
    "ServerlessSettings",
    "Settings",
    "StorageSettings",
    "StoreSettings",
    "dump_settings",
    "load_settings",
    "parse_settings",
    "run_dir",
    "settings_reference",
]
