"""Decide what adapters need: which copies of their base have to load them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clary.control.instances import KnownInstance
from clary.fleet.adapters import AdapterState
from clary.resources.endpoint import MAX_FAILURE_REASON
from clary.resources.inference_component import ComponentStatus, InferenceComponent
from clary.store.inference_components import ComponentState

Loaded = Mapping[str, Mapping[str, AdapterState]]
"""Adapters by copy and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """What one adapter needs."""

    load: tuple[str, ...] = ()
    """Copies that have to load it."""

    unload: tuple[str, ...] = ()
    """Copies that have to unload it."""

    serving: tuple[KnownInstance, ...] | None = None
    """Copies that take its invocations. None: it takes none."""

    refuses: bool = True
    """Whether its invocations are refused while there is no such copy."""

    state: ComponentState | None = None
    is_gone: bool = False


def plan_adapter(
    adapter: InferenceComponent,
    base: InferenceComponent | None,
    copies: Sequence[KnownInstance],
    loaded: Loaded,
    *,
    base_waits: bool,
) -> AdapterPlan:
    """Return what an adapter needs.

    Args:
        adapter: The adapter.
        base: Its base; None: it is gone.
        copies: Those of the base that take invocations.
        loaded: What copies have loaded.
        base_waits: Whether invocations of the base wait for a copy where there is none.
    """
    having = [c.record.id for c in copies if adapter.name in loaded.get(c.record.id, {})]
    if adapter.status is ComponentStatus.DELETING or base is None:
        is_gone = adapter.status is ComponentStatus.DELETING and not having
        return AdapterPlan(unload=tuple(having), is_gone=is_gone)
    if adapter.status is ComponentStatus.FAILED:
        return AdapterPlan(unload=tuple(having))
    ready: list[KnownInstance] = []
    load: list[str] = []
    reason: str | None = None
    for copy in copies:
        state = loaded.get(copy.record.id, {}).get(adapter.name)
        if state is None or (state.revision != adapter.revision and state.state != "loading"):
            load.append(copy.record.id)
        elif state.state == "failed":
            reason = state.reason[:MAX_FAILURE_REASON]
        if state is not None and state.state == "ready":
            ready.append(copy)  # of an older revision too, until it is replaced
    is_new = sum(loaded[c.record.id][adapter.name].revision == adapter.revision for c in ready)
    now = ComponentState(
        status=adapter.status,
        failure_reason=adapter.failure_reason,
        current_copies=len(ready),
        update=None,
    )
    if reason is not None and adapter.status is ComponentStatus.CREATING:
        now = replace(now, status=ComponentStatus.FAILED, failure_reason=reason, current_copies=0)
        return AdapterPlan(state=now, unload=tuple(having))
    if reason is not None:
        now = replace(now, status=ComponentStatus.IN_SERVICE, failure_reason=reason)
    elif is_new == len(copies) and base.status is not ComponentStatus.CREATING:
        now = replace(now, status=ComponentStatus.IN_SERVICE, failure_reason=None)
    return AdapterPlan(load=tuple(load), serving=tuple(ready), refuses=not base_waits, state=now)
