"""What a process has open with each instance at a moment, noted ten times a second."""

from collections.abc import Iterable

from clary.metrics.registry import Registry
from clary.router.table import Worker


def note_loads(registry: Registry, workers: Iterable[Worker]) -> None:
    """Note open calls, and those of them that wait for a worker to be free.

    Args:
        registry: Takes the notes.
        workers: All that may have open calls.
    """
    loads: dict[str, int] = {}
    queues: dict[str, int] = {}
    for worker in workers:
        channel = worker.channel
        if not channel.outstanding:
            continue
        instance_id = worker.instance_id
        loads[instance_id] = loads.get(instance_id, 0) + channel.outstanding
        if channel.outstanding > channel.concurrency > 0:
            waiting = channel.outstanding - channel.concurrency
            queues[instance_id] = queues.get(instance_id, 0) + waiting
    for instance_id, load in loads.items():
        registry.note_load(instance_id, load)
    for instance_id, waiting in queues.items():
        registry.note_queue(instance_id, waiting)
