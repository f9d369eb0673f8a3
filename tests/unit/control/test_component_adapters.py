"""What adapters need of the copies of their base, as a table."""

from typing import Any

import pytest

from builders import A_TIME, a_component
from clary.control.component_adapters import AdapterPlan, plan_adapter
from clary.control.instances import KnownInstance
from clary.fleet.adapters import AdapterState
from clary.resources.inference_component import (
    ComponentStatus,
    InferenceComponent,
    hosts_name,
)
from clary.resources.instance import InstanceRecord

CREATING, IN_SERVICE = ComponentStatus.CREATING, ComponentStatus.IN_SERVICE
FAILED, DELETING = ComponentStatus.FAILED, ComponentStatus.DELETING


def adapter(status: ComponentStatus = CREATING, **fields: Any) -> InferenceComponent:
    return a_component("red", base_name="llm", status=status, desired_copies=0, **fields)


def copies(*ids: str) -> list[KnownInstance]:
    return [
        KnownInstance(
            record=InstanceRecord(
                id=id,
                endpoint_name=hosts_name("digits"),
                variant_name="llm",
                generation=1,
                created_at=A_TIME,
            ),
            observed=None,
        )
        for id in ids
    ]


def on(state: str = "ready", revision: int = 1, reason: str = "") -> dict[str, AdapterState]:
    return {"red": AdapterState(revision=revision, state=state, reason=reason)}  # type: ignore[arg-type]


def plan(
    which: InferenceComponent,
    there: list[KnownInstance],
    loaded: dict[str, dict[str, AdapterState]],
    base: InferenceComponent | None = None,
    **more: Any,
) -> AdapterPlan:
    base = a_component() if base is None and not more.pop("is_orphan", False) else base
    return plan_adapter(which, base, there, loaded, base_waits=more.get("base_waits", False))


@pytest.mark.parametrize(
    ("loaded", "load", "serving", "status"),
    [
        pytest.param({}, ("c1", "c2"), [], "Creating", id="nothing-is-loaded"),
        pytest.param({"c1": on("loading")}, ("c2",), [], "Creating", id="one-is-loading"),
        pytest.param({"c1": on()}, ("c2",), ["c1"], "Creating", id="one-is-there"),
        pytest.param({"c1": on(), "c2": on()}, (), ["c1", "c2"], "InService", id="on-all"),
        pytest.param(
            {"c1": on(revision=0), "c2": on()}, ("c1",), ["c1", "c2"], "Creating", id="an-older-one"
        ),
    ],
)
def test_all_copies_load_it(
    loaded: dict[str, dict[str, AdapterState]],
    load: tuple[str, ...],
    serving: list[str],
    status: str,
) -> None:
    result = plan(adapter(), copies("c1", "c2"), loaded)
    assert result.load == load
    assert result.serving is not None
    assert [c.record.id for c in result.serving] == serving
    assert result.state is not None
    assert (result.state.status, result.state.current_copies) == (status, len(serving))


def test_an_adapter_of_a_base_without_copies_is_in_service_and_refuses() -> None:
    result = plan(adapter(), [], {})
    assert result.state is not None
    assert (result.state.status, result.refuses) == (IN_SERVICE, True)
    assert plan(adapter(), [], {}, base_waits=True).refuses is False


def test_an_adapter_waits_for_its_base() -> None:
    result = plan(adapter(), [], {}, a_component(status=CREATING))
    assert result.state is not None
    assert result.state.status is CREATING


def test_a_new_adapter_that_cannot_be_loaded_fails() -> None:
    loaded = {"c1": on("failed", reason="No weights."), "c2": on()}
    result = plan(adapter(), copies("c1", "c2"), loaded)
    assert result.state is not None
    assert (result.state.status, result.state.failure_reason) == (FAILED, "No weights.")
    assert (result.serving, result.unload) == (None, ("c1", "c2"))


def test_an_adapter_that_serves_stays_when_its_next_one_fails() -> None:
    loaded = {"c1": on("failed", reason="No weights."), "c2": on()}
    result = plan(adapter(ComponentStatus.UPDATING), copies("c1", "c2"), loaded)
    assert result.state is not None
    assert (result.state.status, result.state.failure_reason) == (IN_SERVICE, "No weights.")
    assert result.serving is not None
    assert [c.record.id for c in result.serving] == ["c2"]


def test_a_deleted_adapter_is_gone_when_no_copy_has_it() -> None:
    first = plan(adapter(DELETING), copies("c1"), {"c1": on()})
    assert (first.unload, first.is_gone, first.serving) == (("c1",), False, None)
    assert plan(adapter(DELETING), copies("c1"), {}).is_gone


def test_a_failed_adapter_and_one_without_a_base_have_no_route() -> None:
    assert plan(adapter(FAILED), copies("c1"), {"c1": on()}).unload == ("c1",)
    orphan = plan(adapter(IN_SERVICE), [], {}, is_orphan=True)
    assert (orphan.serving, orphan.state, orphan.is_gone) == (None, None, False)
