"""What to supervise: the value that ``clary up`` writes and the supervisor reads."""

import json
import os
from dataclasses import asdict, dataclass, field

EXIT_CONFIGURATION = 78
"""Exit status (EX_CONFIG) with which a role says: a restart will not help. What is wrong stands in
``<run dir>/<role>.error``; the supervisor prints it, stops everything and leaves with status 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One process that the supervisor keeps running."""

    name: str
    argv: list[str]
    gets_port: bool = False
    """Whether it inherits the listening socket of the server's port, by ``CLARY_LISTEN_FD``."""

    socket: str = ""
    """Path of a Unix socket that makes this role one on demand: the supervisor listens there, and
    starts the role, which inherits the socket (``CLARY_LISTEN_FD``), when somebody first connects.
    From then on it is watched and started again like any other."""

    @property
    def is_on_demand(self) -> bool:
        """Whether it is started when it is first needed."""
        return bool(self.socket)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to supervise."""

    data_dir: str
    run_dir: str
    log_dir: str
    host: str
    port: int
    roles: list[Role]
    life: str = field(default_factory=lambda: os.urandom(8).hex())
    """Names this run: what was observed in another life does not count."""

    banner: str = ""
    """Line to print once the socket is open; ``{url}`` becomes the address."""

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan that ``to_json`` wrote."""
        data = json.loads(text)
        roles = [Role(**role) for role in data.pop("roles")]
        return cls(roles=roles, **data)
