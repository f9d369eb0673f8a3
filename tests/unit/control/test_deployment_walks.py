"""Whole deployments, walked by chance: whatever happens, enough instances serve, and it ends.

A world of values plays store, fleet and gateways. Each pass may be cut off after any of its four
parts, as by ``kill -9``; the next one starts from what is written.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import A_TIME
from clary.control.deployment_plan import Standing
from clary.control.endpoint_plan import Plan, StartLimits, plan_endpoint
from clary.control.instances import (
    AddInstance,
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.launchers.base import InstanceState
from clary.resources.endpoint import (
    Endpoint,
    EndpointEvent,
    EndpointStatus,
    next_status,
)
from clary.resources.instance import InstanceRecord
from deployments import NEW, OLD, an_update, canary, fleet_of, rolling, seen

LIMITS = StartLimits(startup_timeout_s=480, download_timeout_s=3600)
PARTS = 4
"""Intent, route, actions, record (``control/endpoints.py``)."""


@dataclass
class World:
    endpoint: Endpoint
    random: Random
    old_total: int
    new_total: int
    fails_at: int | None = None
    """Which start of a new instance fails."""

    now_s: float = 0.0
    records: dict[str, InstanceRecord] = field(default_factory=dict)
    states: dict[str, InstanceState] = field(default_factory=dict)
    starts: int = 0
    count: int = 0

    def __post_init__(self) -> None:
        for instance in fleet_of(self.old_total, OLD):
            self.records[instance.record.id] = instance.record
            self.states[instance.record.id] = InstanceState.HEALTHY

    def known(self) -> list[KnownInstance]:
        return [
            replace(
                seen(id, record.fleet, self.states.get(id), stopping=record.stopping),
                record=record,
            )
            for id, record in self.records.items()
        ]

    def run_pass(self, parts: int) -> None:
        """Do the first parts of a pass; then control is killed, if they are not all."""
        deployment = self.endpoint.deployment
        now = A_TIME + timedelta(seconds=self.now_s)
        age_s = (now - deployment.progress_at).total_seconds() if deployment else 0.0
        plan = plan_endpoint(
            self.endpoint,
            self.known(),
            now=now,
            limits=LIMITS,
            standing=Standing(age_s=self.now_s, progress_age_s=age_s),
        )
        added = self.write_intent(plan) if parts > 0 else []
        if parts > 1:
            self.check_route(plan)
        if parts > 2:
            self.act(plan, added)
        if parts > 3:
            self.record(plan)

    def write_intent(self, plan: Plan) -> list[str]:
        added = []
        for action in plan.actions:
            if isinstance(action, AddInstance):
                self.count += 1
                record = seen(f"i-{action.fleet}-n{self.count}", action.fleet).record
                record = replace(record, created_at=A_TIME + timedelta(seconds=self.now_s))
                self.records[record.id] = record
                added.append(record.id)
            elif isinstance(action, StopInstance):
                self.records[action.id] = replace(self.records[action.id], stopping=True)
        return added

    def check_route(self, plan: Plan) -> None:
        """No fleet has more of the traffic than of its instances."""
        assert plan.route is not None
        whole = sum(variant.weight for variant in plan.route.variants)
        assert whole == pytest.approx(1.0)
        for variant in plan.route.variants:
            is_old = variant.config_name == "old"
            total = self.old_total if is_old else self.new_total
            for instance in variant.instances:
                assert self.states[instance.id] is InstanceState.HEALTHY
            share = variant.weight
            if is_old or self.fails_at is None:
                assert len(variant.instances) >= share * total - 1e-6, variant

    def act(self, plan: Plan, added: list[str]) -> None:
        starting = [a.id for a in plan.actions if isinstance(a, StartInstance)]
        for id in [*starting, *added]:
            if self.records[id].fleet == NEW:
                self.starts += 1
            fails = self.records[id].fleet == NEW and self.starts == self.fails_at
            self.states[id] = InstanceState.FAILED if fails else InstanceState.STARTING
        for action in plan.actions:
            if isinstance(action, StopInstance):
                self.states.pop(action.id, None)
            elif isinstance(action, RemoveInstance):
                del self.records[action.id]

    def record(self, plan: Plan) -> None:
        deployment = self.endpoint.deployment
        now = A_TIME + timedelta(seconds=self.now_s)
        if deployment is not None:
            deployment = replace(deployment, variants=plan.pending)
            if plan.progress is not None:
                deployment = replace(deployment, progress=plan.progress, progress_at=now)
        self.endpoint = replace(self.endpoint, variants=plan.variants, deployment=deployment)
        if plan.event is None:
            return
        before = self.endpoint.status
        self.endpoint = replace(self.endpoint, status=next_status(before, plan.event))
        if deployment is None:
            return
        if plan.event is EndpointEvent.GAVE_UP:
            assert before is EndpointStatus.UPDATING
            progress = replace(deployment.progress, rollback_step=1)
            deployment = replace(deployment, progress=progress, progress_at=now)
            self.endpoint = replace(self.endpoint, deployment=deployment)
        elif before is EndpointStatus.UPDATING:
            self.endpoint = replace(
                self.endpoint,
                deployment=None,
                config=deployment.config,
                variants=deployment.variants,
                fleet=deployment.fleet,
            )
        else:
            self.endpoint = replace(self.endpoint, deployment=None)

    def something_happens(self) -> None:
        starting = [id for id, s in self.states.items() if s is InstanceState.STARTING]
        if starting and self.random.random() < 0.7:
            self.states[self.random.choice(starting)] = InstanceState.HEALTHY
        else:
            self.now_s += self.random.choice((0.1, 1, 20))

    @property
    def is_over(self) -> bool:
        number = self.endpoint.fleet
        return (
            self.endpoint.status is EndpointStatus.IN_SERVICE
            and {record.fleet for record in self.records.values()} == {number}
            and all(self.states.get(id) is InstanceState.HEALTHY for id in self.records)
        )


policies = st.one_of(
    st.none(),
    st.builds(canary, st.integers(1, 50), st.integers(0, 30), st.integers(0, 30)),
    st.builds(
        rolling, st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4)), st.integers(0, 30)
    ),
)


@given(
    policies,
    st.integers(1, 6),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 8)),
    st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_whatever_happens_enough_instances_serve_and_it_ends(
    policy: dict[str, Any] | None, old: int, new: int, fails_at: int | None, seed: int
) -> None:
    random = Random(seed)
    world = World(an_update(policy, old=old, new=new), random, old, new, fails_at)
    for _ in range(600):
        world.run_pass(random.choice((1, 2, 3, PARTS, PARTS, PARTS)))
        if world.is_over:
            break
        world.something_happens()
    assert world.is_over, (world.endpoint, world.states)
    has_failed = world.fails_at is not None and world.starts >= world.fails_at
    assert world.endpoint.config.name == ("old" if has_failed else "new")
    assert len(world.records) == (old if has_failed else new)
