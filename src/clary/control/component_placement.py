"""Which instance a copy goes to, and how many instances copies need. Pure.

An instance is so much of CPU, memory and accelerators; a copy takes its share of it, and gives it
back when its processes are gone. What does not fit is not placed: there is no overcommitting.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from clary.resources.inference_component import ComponentSpec, ComputeResources, Placement


@dataclass(slots=True)
class Host:
    """An instance of a variant, with what is free of it."""

    id: str
    free: ComputeResources
    copies: Counter[str] = field(default_factory=Counter)
    """Copies on it, by component."""

    is_wanted_only: bool = False
    """It was asked for, or may be, and is not there yet."""

    def take(self, component: str, needs: ComputeResources) -> None:
        """Give a copy its share."""
        self.free = self.free.minus(needs)
        self.copies[component] += 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Copies of a component that are to be placed."""

    component: str
    spec: ComponentSpec
    count: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A copy that is on a host."""

    component: str
    spec: ComponentSpec
    host_id: str


def place(wanted: Wanted, hosts: Sequence[Host]) -> list[str]:
    """Place as many copies as there is room for, and take their shares; return the hosts.

    Args:
        wanted: What to place.
        hosts: Of the variant, oldest first; changed.

    Returns:
        An id for each copy that found room, those of instances that are only wanted too.
    """
    placed = []
    for _ in range(wanted.count):
        host = choose_host(wanted, hosts)
        if host is None:
            break
        host.take(wanted.component, wanted.spec.needs)
        placed.append(host.id)
    return placed


def choose_host(wanted: Wanted, hosts: Iterable[Host]) -> Host | None:
    """Return the host for one more copy: one that is there before one that is only wanted."""
    needs = wanted.spec.needs
    fitting = [host for host in hosts if host.free.fits(needs)]
    if not fitting:
        return None
    if wanted.spec.placement is Placement.BINPACK:
        return min(fitting, key=lambda h: (h.is_wanted_only, *_room(h)))
    return min(
        fitting, key=lambda h: (h.is_wanted_only, h.copies[wanted.component], h.copies.total())
    )


def _room(host: Host) -> tuple[int, float, int]:
    """Return how much is free, so that the fullest comes first."""
    return host.free.accelerators, host.free.cpu_cores, host.free.memory_mib


def grow(
    hosts: Sequence[Host], wanted: Sequence[Wanted], *, size: ComputeResources, at_most: int
) -> int:
    """Return how many more instances are needed for all that is to be placed.

    Args:
        hosts: Those that are there; left as they are.
        wanted: What is to be placed, in order.
        size: What one more instance would have.
        at_most: No more than so many.

    Returns:
        Only those that would get a copy: what fits on no instance asks for none.
    """
    trial = [Host(h.id, h.free, Counter(h.copies), h.is_wanted_only) for h in hosts]
    added: list[Host] = []
    for each in wanted:
        for _ in range(each.count):
            host = choose_host(each, [*trial, *added])
            if host is None:
                if len(added) >= at_most or not size.fits(each.spec.needs):
                    break
                host = Host(f"new-{len(added)}", size, is_wanted_only=True)
                added.append(host)
            host.take(each.component, each.spec.needs)
    return len(added)


def vacate(hosts: Sequence[Host], copies: Sequence[Placed], *, at_most: int) -> list[str]:
    """Return the hosts whose copies would all find room on the others, the emptiest first.

    Args:
        hosts: Those that are there; left as they are.
        copies: What is on them.
        at_most: No more than so many.
    """
    gone: list[str] = []
    trial = [Host(h.id, h.free, Counter(h.copies)) for h in hosts]
    for host in sorted(hosts, key=lambda host: host.copies.total()):
        if len(gone) == at_most:
            break
        if any(h.id == host.id and h.copies != host.copies for h in trial):
            continue  # it takes what comes from another one
        stay = [h for h in trial if h.id != host.id]
        moved = [Host(h.id, h.free, Counter(h.copies)) for h in stay]
        mine = [copy for copy in copies if copy.host_id == host.id]
        if mine and all(place(Wanted(c.component, c.spec, 1), moved) for c in mine):
            gone.append(host.id)
            trial = moved
    return gone


def surplus_order(
    placement: Placement, component: str, hosts: Sequence[Host], id: str | None
) -> int:
    """Return a key by which copies that are too many stop: the least first.

    SPREAD takes them from where most are, BINPACK from where the fewest of any component are, so
    that an instance becomes empty.
    """
    host = next((host for host in hosts if host.id == id), None)
    if host is None:
        return -1_000_000
    if placement is Placement.BINPACK:
        return host.copies.total()
    return -host.copies[component]
