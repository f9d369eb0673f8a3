"""Account quotas: how many instances may be asked for, by type and in all."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clary.errors import LimitExceeded
from clary.resources.serverless import ServerlessQuotas


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How many instances all endpoints together may ask for."""

    total: int
    """Instances of all types."""

    by_type: Mapping[str, int] = field(default_factory=dict)
    """Instances of single types, such as ``ml.g5.xlarge``. Others are bounded by ``total``."""

    serverless: ServerlessQuotas = field(default_factory=ServerlessQuotas)

    def check(
        self, wanted: Mapping[str, int], in_use: Mapping[str, int], *, usage: str = "endpoint"
    ) -> None:
        """Refuse what would pass a quota.

        Args:
            wanted: Instances that a request adds, by type; less than 0 where it gives some back,
                which is always allowed.
            in_use: Instances that others of the kind already ask for, by type.
            usage: The kind that asks: ``endpoint`` or ``transform job``.

        Raises:
            LimitExceeded: In AWS's words, naming the first quota that would be passed.
        """
        for instance_type, delta in wanted.items():
            limit = self.by_type.get(instance_type)
            used = in_use.get(instance_type, 0)
            if limit is not None and delta > 0 and used + delta > limit:
                raise _exceeded(f"{instance_type} for {usage} usage", limit, used, delta)
        used, delta = sum(in_use.values()), sum(wanted.values())
        if delta > 0 and used + delta > self.total:
            raise _exceeded(f"Number of instances across all {usage}s", self.total, used, delta)


def _exceeded(quota: str, limit: int, used: int, delta: int) -> LimitExceeded:
    # AWS's sentence (runtime-errors.md 3), with the last one saying what helps here.
    return LimitExceeded(
        f"The account-level service limit '{quota}' is {limit} Instances, with current "
        f"utilization of {used} Instances and a request delta of {delta} Instances. Please "
        "contact AWS support to request an increase for this limit. (On this server: raise "
        "fleet.instance_type_quotas or fleet.max_instances.)"
    )
