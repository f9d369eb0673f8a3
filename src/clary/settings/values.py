"""Every setting, its default and its unit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clary.settings.telemetry import MetricSettings, OtelSettings


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
    """Local directory with code that the image brings (``inference.py`` or the server).
    Relative ones, of ``python`` too, begin where ``clary up`` was started."""

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
    """Memory of the loaded models of one instance of a multi-model endpoint, and of the process
    that waits for the next one, in MiB; beyond it the least recently used are unloaded. 0: the
    memory of the instance type where ``capacity`` is ``strict``, else four fifths of this
    machine's."""

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
class CaptureSettings:
    """Data capture: how much is held on the way to S3, and for how long."""

    max_body_bytes: int = 25 * 1024 * 1024
    """Longest body, of a request or an answer, that is captured. A call with a longer one is
    not."""

    queue_bytes: int = 64 * 1024 * 1024
    """Most bytes of captured calls in each gateway process, on their way to the jobs process. What
    has no room is dropped."""

    buffer_bytes: int = 256 * 1024 * 1024
    """Most bytes that the jobs process holds until they are in S3. One endpoint may have half of
    it. What has no room is dropped."""

    flush_s: float = 30.0
    """Longest time that a record waits for others of its object, in seconds."""

    flush_bytes: int = 4 * 1024 * 1024
    """Size from which an object is written at once, in bytes."""

    keep_s: float = 3600.0
    """How long an object that cannot be written is tried again, in seconds, until it is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncSettings:
    """Asynchronous inference."""

    max_body_bytes: int = 1024**3
    """Longest input in S3, and longest answer, in bytes."""

    max_held: int = 256
    """Most invocations that the jobs process works on at once, in all stages."""

    lease_s: float = 15.0
    """How long nobody else takes over an invocation from a jobs process that has gone silent, in
    seconds."""

    max_worker_losses: int = 5
    """An invocation under which so many workers ended has failed: it may be what ends them."""

    write_for_s: float = 3600.0
    """How long an output that cannot be written is tried again, in seconds."""

    notify_for_s: float = 86400.0
    """How long a notification that its topic does not take is tried again, in seconds."""

    keep_s: float = 86400.0
    """How long the server can tell what became of an invocation, in seconds."""

    backlog_interval_s: float = 60.0
    """How often the backlog is measured, in seconds: its metrics get a value each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerlessSettings:
    """Serverless variants."""

    idle_s: float = 300.0
    """How long workers are kept that no call has needed, in seconds. Then only the provisioned ones
    stay, or none."""

    max_workers: int = 16
    """Most workers of one variant, unless more are provisioned. Calls beyond it, up to the
    variant's ``MaxConcurrency``, wait for one of them."""

    start_wait_s: float = 180.0
    """Longest time that a call waits for a worker to start, in seconds; its own time limit begins
    after that."""

    templates: bool = True
    """Whether a process that has imported a model's libraries is kept while the variant has no
    worker, from which workers are forked."""

    max_concurrency: int = 1000
    """Account quota: most calls at once that all serverless variants together may ask for."""

    max_endpoints: int = 50
    """Account quota: most serverless endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The state database."""

    url: str = ""
    """SQLAlchemy URL. Empty: SQLite in the data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is kept of logs: the models' (CloudWatch Logs) and the server's own."""

    max_stream_bytes: int = 100 * 1024**2
    """Most bytes of one log stream, such as the output of one instance. Beyond it the older half
    is dropped. 0: no limit."""

    max_group_bytes: int = 1024**3
    """Most bytes of one log group's files, such as the logs of all instances an endpoint ever had.
    Beyond it logs of instances that are gone are removed, oldest first. 0: no limit."""

    retention_days: int = 0
    """Days that events are kept in groups without a retention policy of their own. 0: for ever, as
    on AWS."""

    server_max_bytes: int = 50 * 1024**2
    """Most bytes of the log of one of the server's own processes. 0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourSettings:
    """IAM, SNS, SQS and ECR: here, or somewhere else."""

    iam_endpoint_url: str = ""
    """Another IAM that calls are passed on to, signed with the server's own AWS credentials (from
    the standard environment variables and files). Empty: the one of this server."""

    sns_endpoint_url: str = ""
    """The same for SNS, alarm actions and other notifications included."""

    sqs_endpoint_url: str = ""
    """The same for SQS. Queues there get nothing from topics here: replace both or neither."""

    ecr_endpoint_url: str = ""
    """The same for ECR."""

    @property
    def endpoint_urls(self) -> dict[str, str]:
        """The endpoints by service; empty for those of this server."""
        return {
            "iam": self.iam_endpoint_url,
            "sns": self.sns_endpoint_url,
            "sqs": self.sqs_endpoint_url,
            "ecr": self.ecr_endpoint_url,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """Who is told when endpoints, deployments and alarms change."""

    file: bool = True
    """Whether events are written to ``events.jsonl`` in the data directory."""

    file_max_bytes: int = 16 * 1024 * 1024
    """Size at which a new file is begun; three earlier ones are kept."""

    webhook_urls: tuple[str, ...] = ()
    """URLs that each event is posted to."""

    webhook_timeout_s: float = 10.0
    """Longest time that a webhook may take, in seconds."""

    sns_topic_arns: tuple[str, ...] = ()
    """Topics that each event is published to."""

    max_pause_s: float = 300.0
    """Longest pause before a receiver that takes nothing is asked again, in seconds."""

    max_age_s: float = 86400.0
    """An event that a receiver has not taken for so long is given up, in seconds."""

    max_pending: int = 10_000
    """Most events that wait for a receiver; beyond it the oldest are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscalingSettings:
    """Application Auto Scaling. Shorter periods than AWS's are for trying things out."""

    period_s: int = 60
    """Period of the alarms of target tracking policies, in seconds. What a metric adds up is added
    up over this: with 10, ``InvocationsPerInstance`` is invocations in 10 s. 10, 30 or a multiple
    of 60."""

    high_resolution_period_s: int = 10
    """The same for policies with a ``...HighResolution`` metric. 1, 5, 10, 30 or a multiple of
    60."""

    out_periods: int = 3
    """Periods in a row that a metric has to be above its target before capacity is added."""

    in_periods: int = 15
    """Periods in a row that a metric has to be below 0.9 times its target before capacity is
    removed."""

    fulfilment_timeout_s: float = 3600.0
    """Time for a change of capacity to be made before its activity is ``Unfulfilled``, in
    seconds."""

    schedule_grace_s: float = 300.0
    """How late a scheduled action may still be carried out, in seconds, for instance after a
    restart. One that is later is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    server: ServerSettings = field(default_factory=ServerSettings)
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    async_inference: AsyncSettings = field(default_factory=AsyncSettings)
    serverless: ServerlessSettings = field(default_factory=ServerlessSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    events: EventSettings = field(default_factory=EventSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    otel: OtelSettings = field(default_factory=OtelSettings)
    autoscaling: AutoscalingSettings = field(default_factory=AutoscalingSettings)
    runners: tuple[RunnerSettings, ...] = ()

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return Path(self.server.data_dir).expanduser().absolute()

    @property
    def auth_is_on(self) -> bool:
        """Whether signatures are verified."""
        return self.server.auth == "on"
