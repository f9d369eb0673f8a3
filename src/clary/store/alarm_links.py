"""Which alarm watches which: no circles, nothing that is not there, nothing pulled away."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from clary.errors import InvalidRequest
from clary.store.schema import alarm_children, alarms


def check_children(connection: Connection, name: str, children: Sequence[str]) -> None:
    """Refuse an alarm that would watch itself, or one that is not there.

    Raises:
        InvalidRequest: In AWS's words, naming the alarms.
    """
    if not children:
        return
    wanted = set(children)
    if name in wanted:
        raise InvalidRequest(f"Could not save the composite alarm {name}: it refers to itself.")
    present = set(
        connection.scalars(sa.select(alarms.c.name).where(alarms.c.name.in_(list(wanted))))
    )
    missing = [child for child in dict.fromkeys(children) if child not in present]
    if missing:
        raise InvalidRequest(
            f"Could not save the composite alarm as alarms [{', '.join(missing)}] in the alarm "
            "rule do not exist"
        )
    seen, frontier = set(wanted), wanted
    while frontier:
        frontier = set(
            connection.scalars(
                sa.select(alarm_children.c.child).where(alarm_children.c.parent.in_(list(frontier)))
            )
        )
        if name in frontier:
            raise InvalidRequest(
                f"Could not save the composite alarm {name}: its rule leads back to itself."
            )
        frontier -= seen
        seen |= frontier


def check_parents(connection: Connection, names: Sequence[str]) -> None:
    """Refuse to take alarms away from composite ones that stay.

    Raises:
        InvalidRequest: Naming the first.
    """
    rows = connection.execute(
        sa.select(alarm_children.c.parent, alarm_children.c.child)
        .where(alarm_children.c.child.in_(list(names)))
        .order_by(alarm_children.c.child)
    )
    for parent, child in rows:
        if parent not in names:
            raise InvalidRequest(
                f"Cannot delete {child} as there are composite alarm(s) depending on it: {parent}."
            )
