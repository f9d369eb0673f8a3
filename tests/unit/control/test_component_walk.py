"""Components through random lives: whatever happens, no instance holds more than it has.

A small world does what plans say: records are written, copies become healthy or fail, control and
everything else is killed. In the end, when nothing happens any more, all that fits is there.
"""

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from builders import A_TIME, a_component, a_spec
from clary.control.inference_component_plan import (
    AddCopy,
    Consolidation,
    VariantHosts,
    plan_components,
)
from clary.control.instances import (
    KnownInstance,
    RemoveInstance,
    StartInstance,
    StopInstance,
)
from clary.fleet.instance import ObservedInstance
from clary.fleet.launchers.base import InstanceState
from clary.resources.inference_component import (
    ComponentStatus,
    ComponentUpdate,
    ComputeResources,
    InferenceComponent,
    hosts_name,
)
from clary.resources.instance import InstanceRecord
from clary.resources.routing_table import ContainerRoute

SIZE = ComputeResources(cpu_cores=4.0, memory_mib=8192)
MOST = 4


@dataclass
class World:
    chance: random.Random
    components: dict[str, InferenceComponent] = field(default_factory=dict)
    records: dict[str, InstanceRecord] = field(default_factory=dict)
    states: dict[str, InstanceState] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)
    desired: int = 1
    now_s: float = 0.0
    number: int = 0
    moves: bool = False
    vacating: set[str] = field(default_factory=set)

    def pass_once(self) -> None:
        while len(self.hosts) < self.desired:
            self.hosts.append(self.name("h"))
        plan = plan_components(
            list(self.components.values()),
            [KnownInstance(record=r, observed=self.seen(r)) for r in self.records.values()],
            [
                VariantHosts(
                    name="AllTraffic",
                    instance_type="ml.m5.xlarge",
                    size=SIZE,
                    ids=tuple(self.hosts),
                    desired=self.desired,
                    bounds=(0, MOST),
                    consolidation=Consolidation(step=2, cooldown_s=30) if self.moves else None,
                    vacating=frozenset(self.vacating),
                )
            ],
            now=A_TIME + timedelta(seconds=self.now_s),
            alarms={},
            patience_s=600,
        )
        for action in plan.actions:
            if isinstance(action, AddCopy):
                copy = self.name("c")
                self.records[copy] = InstanceRecord(
                    id=copy,
                    endpoint_name=hosts_name("digits"),
                    variant_name=action.component,
                    generation=action.revision,
                    created_at=A_TIME + timedelta(seconds=self.now_s),
                    host_id=action.host_id,
                    share=action.share,
                )
                self.states[copy] = InstanceState.STARTING
            elif isinstance(action, StartInstance):
                self.states[action.id] = InstanceState.STARTING
            elif isinstance(action, StopInstance):
                self.records[action.id] = replace(self.records[action.id], stopping=True)
                if action.id in self.states:
                    self.states[action.id] = InstanceState.STOPPING
            elif isinstance(action, RemoveInstance):
                del self.records[action.id]
        self.record(plan.states)
        for name in plan.gone:
            del self.components[name]
        self.desired = plan.instance_counts.get("AllTraffic", self.desired)
        for host in plan.released:
            self.hosts.remove(host)
        self.vacating = set(plan.vacated) or self.vacating - set(plan.released)
        if plan.needs_room:
            self.vacating = set()
        self.check()

    def record(self, states) -> None:  # type: ignore[no-untyped-def]
        for name, state in states.items():
            old = self.components[name]
            back = {}
            if state.is_rolled_back and old.update is not None:
                back = {"spec": old.update.old, "revision": old.update.old_revision}
            self.components[name] = replace(
                old,
                status=state.status,
                failure_reason=state.failure_reason,
                current_copies=state.current_copies,
                update=state.update,
                **back,
            )

    def check(self) -> None:
        used: dict[str, ComputeResources] = {}
        for record in self.records.values():
            assert record.share is not None
            assert record.host_id is not None
            used[record.host_id] = used.get(record.host_id, SIZE).minus(record.share)
        for host, free in used.items():
            assert free.cpu_cores >= 0, host
            assert free.memory_mib >= 0, host
        assert len(self.hosts) <= MOST

    def seen(self, record: InstanceRecord) -> ObservedInstance | None:
        state = self.states.get(record.id)
        if state is None:
            return None
        works = state is InstanceState.HEALTHY
        workers = (ContainerRoute(name="primary", workers=("unix:/w",)),) if works else ()
        return ObservedInstance(
            id=record.id,
            endpoint_name=record.endpoint_name,
            variant_name=record.variant_name,
            state=state,
            containers=workers,
        )

    def name(self, letter: str) -> str:
        self.number += 1
        return f"{letter}{self.number}"

    # What happens

    def happen(self, *, peaceful: bool = False) -> None:
        self.now_s += self.chance.uniform(0, 20)
        for copy, state in list(self.states.items()):
            if state is InstanceState.STOPPING and self.chance.random() < 0.6:
                del self.states[copy]
            elif state is InstanceState.STARTING and self.chance.random() < 0.6:
                fails = not peaceful and self.chance.random() < 0.1
                self.states[copy] = InstanceState.FAILED if fails else InstanceState.HEALTHY
            elif not peaceful and self.chance.random() < 0.02:
                self.states[copy] = InstanceState.LOST
        if peaceful:
            return
        event = self.chance.choice(
            ["create", "scale", "scale", "update", "delete", "die", "-", "-"]
        )
        names = [n for n, c in self.components.items() if c.status in _CHANGEABLE]
        if event == "create" and len(self.components) < 4:
            name = self.name("ic")
            self.components[name] = a_component(
                name,
                status=ComponentStatus.CREATING,
                desired_copies=self.chance.randint(0, 4),
                spec=self.a_spec(),
            )
        elif event == "die" and self.chance.random() < 0.3:
            self.states.clear()
        elif names and event in ("scale", "update", "delete"):
            self.change(self.chance.choice(names), event)

    def change(self, name: str, event: str) -> None:
        old = self.components[name]
        generation = old.generation + 1
        new = replace(
            old, generation=generation, status=ComponentStatus.UPDATING, failure_reason=None
        )
        if event == "delete":
            new = replace(new, status=ComponentStatus.DELETING)
        elif event == "scale":
            new = replace(new, desired_copies=self.chance.randint(0, 6))
        else:
            update = ComponentUpdate(
                old=old.spec,
                old_revision=old.revision,
                started_at=A_TIME + timedelta(seconds=self.now_s),
            )
            new = replace(new, spec=self.a_spec(), revision=generation, update=update)
        if old.status is ComponentStatus.FAILED and event != "delete":
            new = replace(new, status=ComponentStatus.CREATING, update=None)
        self.components[name] = new

    def a_spec(self):  # type: ignore[no-untyped-def]
        strategy = self.chance.choice(["SPREAD", "BINPACK"])
        return a_spec(
            cores=self.chance.randint(1, 12) / 4,
            memory_mib=self.chance.randint(1, 5) * 1024,
            SchedulingConfig={"PlacementStrategy": strategy},
        )


_CHANGEABLE = (ComponentStatus.IN_SERVICE, ComponentStatus.FAILED)


@pytest.mark.parametrize("seed", range(10))
def test_no_walk_overcommits_and_each_ends_with_all_that_fits(seed: int) -> None:
    world = World(random.Random(seed), moves=seed % 2 == 1)
    for _ in range(100):
        world.happen()
        world.pass_once()
    for _ in range(60):
        world.now_s += 60
        world.happen(peaceful=True)
        world.pass_once()
    counts = Counter(
        r.variant_name for r in world.records.values() if not r.stopping and r.id in world.states
    )
    room = MOST - len(world.hosts)
    for name, component in world.components.items():
        if component.status is ComponentStatus.FAILED:
            assert counts[name] == 0
            continue
        assert component.update is None
        missing = component.desired_copies - counts[name]
        assert missing >= 0
        if missing:  # only for want of room
            assert room == 0
            assert str(component.failure_reason).startswith("Waiting for capacity")
        else:
            assert component.status is ComponentStatus.IN_SERVICE
    if not sum(counts.values()):
        assert world.hosts == []
