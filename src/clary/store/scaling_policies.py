"""Scaling policies.

The alarms of target tracking policies are put and removed by ``store/scaling_alarms.py``.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from clary.errors import InvalidRequest, LimitExceeded, NotFound
from clary.resources.scaling import ScalingPolicy, TargetName
from clary.resources.scaling_policies import TARGET_TRACKING, same_metric
from clary.store.listing import Page
from clary.store.scaling_rows import (
    find_policy,
    find_target,
    policies_of,
    to_policy,
    with_target,
)
from clary.store.scaling_table import ScalingFilter, ScalingTable, no_target
from clary.store.schema import scaling_policies

MAX_POLICIES = 50
"""Most policies of one target."""


class ScalingPolicies(ScalingTable):
    """All policies."""

    async def find(self, target: TargetName, name: str) -> ScalingPolicy | None:
        """Return a policy, or None."""

        def query(connection: Connection) -> ScalingPolicy | None:
            found = find_target(connection, target)
            return None if found is None else find_policy(connection, found.id, name)

        return await self._database.read(query)

    async def of_target(self, target: TargetName) -> Sequence[ScalingPolicy]:
        """Return all policies of a target."""

        def query(connection: Connection) -> Sequence[ScalingPolicy]:
            found = find_target(connection, target)
            return [] if found is None else policies_of(connection, [found.id])

        return await self._database.read(query)

    async def put(
        self,
        target: TargetName,
        name: str,
        *,
        policy_type: str,
        configuration: Mapping[str, Any],
        alarms: Callable[[], tuple[str, ...]],
    ) -> ScalingPolicy:
        """Write a policy, or replace what one of this name says.

        Args:
            target: Whose.
            name: Of the policy.
            policy_type: What it is.
            configuration: JSON types, checked.
            alarms: Names new alarms; not called for a policy that has as many as it needs.

        Raises:
            NotFound: There is no such target.
            InvalidRequest: Another policy of the target tracks the same metric.
            LimitExceeded: The target has as many as it may.
        """
        now = self._clock.now()

        def apply(connection: Connection) -> ScalingPolicy:
            found = find_target(connection, target)
            if found is None:
                raise no_target(target)
            others = [p for p in policies_of(connection, [found.id]) if p.name != name]
            if policy_type == TARGET_TRACKING and any(
                p.type == TARGET_TRACKING and same_metric(p.configuration, configuration)
                for p in others
            ):
                raise InvalidRequest(
                    "Only one TargetTrackingScaling policy for a given metric specification is "
                    "allowed."
                )
            if len(others) >= MAX_POLICIES:
                raise LimitExceeded(f"A scalable target can have at most {MAX_POLICIES} policies.")
            present = find_policy(connection, found.id, name)
            names = alarms()
            policy = ScalingPolicy(
                id=present.id if present else str(uuid.uuid4()),
                target=target,
                target_id=found.id,
                name=name,
                type=policy_type,
                configuration=configuration,
                alarms=(*present.alarms, *names[len(present.alarms) :])[: len(names)]
                if present
                else names,
                created_at=present.created_at if present else now,
            )
            values = {
                "type": policy.type,
                "configuration": dict(policy.configuration),
                "alarms": list(policy.alarms),
            }
            if present is None:
                connection.execute(
                    scaling_policies.insert().values(
                        id=policy.id, target_id=found.id, name=name, created_at=now, **values
                    )
                )
            else:
                connection.execute(
                    scaling_policies.update()
                    .where(scaling_policies.c.id == policy.id)
                    .values(**values)
                )
            return policy

        return await self._write(target, apply)

    async def delete(self, target: TargetName, name: str) -> None:
        """Remove a policy.

        Raises:
            NotFound: There is none.
        """

        def apply(connection: Connection) -> None:
            found = find_target(connection, target)
            policy = find_policy(connection, found.id, name) if found else None
            if policy is None:
                raise no_policy(target, name)
            connection.execute(scaling_policies.delete().where(scaling_policies.c.id == policy.id))

        await self._write(target, apply)

    async def list(self, wanted: ScalingFilter) -> Page[ScalingPolicy]:
        """Return one page of policies."""
        return await self._list(with_target(scaling_policies), scaling_policies, wanted, to_policy)


def no_policy(target: TargetName, name: str) -> NotFound:
    """Return the refusal for a policy that is not there."""
    return NotFound(f"No scaling policy found for {target.words()}, scaling policy name: {name}")
