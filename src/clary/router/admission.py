"""Accept an invocation, or say at once that there is no room for it."""

from clary.errors import Overloaded
from clary.router.invocation import Channel


def admit(channel: Channel, time_left_s: float, max_queue: int) -> None:
    """Refuse what would only wait to be too late.

    Args:
        channel: Where the invocation would go.
        time_left_s: Time until its deadline, in seconds.
        max_queue: Most open invocations of one worker.

    Raises:
        Overloaded: The queue is full, or so long that the deadline would pass in it.
    """
    waiting = channel.outstanding
    if waiting >= max_queue:
        raise Overloaded(
            f"The model has {waiting} requests waiting, which is its limit. Try again later."
        )
    # Only a worker that does one call or batch at a time has a queue whose length in time is known;
    # the time of a batch is counted in equal shares.
    if channel.concurrency and waiting * channel.mean_handler_s > time_left_s:
        raise Overloaded(
            f"The model has {waiting} requests waiting that take "
            f"{channel.mean_handler_s:.3f} s each, longer than this request may take. "
            "Try again later."
        )
