"""The outbox: written with the change, kept for each receiver, bounded."""

from datetime import timedelta

import pytest

from builders import A_TIME, a_model, an_endpoint_config
from clary.resources.endpoint import EndpointEvent
from clary.resources.quotas import Quotas
from clary.store.events import append_event

NOW = A_TIME + timedelta(days=3650)
"""Later than anything that a test writes."""


def append(store, runner, *names):
    for name in names:
        event = {"detail-type": "test", "time": "t", "detail": {"n": name}}
        runner.run(store.database.write(lambda c, event=event: append_event(c, event)))


def pending(store, runner, receiver="file", limit=100):
    return runner.run(store.events.pending(receiver, limit=limit))


def names(store, runner, receiver="file"):
    return [event.document["detail"]["n"] for event in pending(store, runner, receiver)]


def test_an_endpoint_leaves_an_event_for_each_status(store, runner):
    runner.run(store.events.register(["file"]))
    runner.run(store.models.create(a_model()))
    runner.run(store.endpoint_configs.create(an_endpoint_config()))
    runner.run(
        store.endpoints.create(
            "digits", "digits", quotas=Quotas(total=10, by_type={}), tags={"team": "ml"}
        )
    )
    runner.run(store.endpoints.record_event("digits", 1, EndpointEvent.READY))
    runner.run(store.endpoints.record_event("digits", 1, EndpointEvent.READY))
    runner.run(store.endpoints.request_deletion("digits"))
    details = [event.document["detail"] for event in pending(store, runner)]
    assert [d["EndpointStatus"] for d in details] == ["CREATING", "IN_SERVICE", "DELETING"]
    assert {d["EndpointConfigName"] for d in details} == {"digits"}
    assert details[0]["Tags"] == {"team": "ml"}
    assert [v["VariantName"] for v in details[0]["ProductionVariants"]] == ["AllTraffic"]


def test_a_change_that_fails_leaves_no_event(store, runner):
    runner.run(store.events.register(["file"]))

    def apply(connection):
        append_event(connection, {"detail-type": "test", "detail": {}})
        raise ValueError("not to be")

    with pytest.raises(ValueError, match="not to be"):
        runner.run(store.database.write(apply))
    assert pending(store, runner) == []


def test_each_receiver_goes_at_its_own_pace(store, runner):
    runner.run(store.events.register(["file", "slow"]))
    append(store, runner, "a", "b", "c")
    second = pending(store, runner)[1]
    runner.run(store.events.delivered("file", second.seq))
    assert names(store, runner) == ["c"]
    assert names(store, runner, "slow") == ["a", "b", "c"]
    assert [e.id for e in pending(store, runner, "slow")] == [
        e.id for e in pending(store, runner, "slow")
    ], "the same id at each delivery"
    assert len(pending(store, runner, "slow", limit=2)) == 2


def test_a_new_receiver_begins_now_and_one_of_before_goes_on(store, runner):
    runner.run(store.events.register(["file"]))
    append(store, runner, "a")
    runner.run(store.events.register(["file", "new"]))
    append(store, runner, "b")
    assert names(store, runner) == ["a", "b"]
    assert names(store, runner, "new") == ["b"]


def trim(store, runner, **limits):
    defaults = {"max_age": timedelta(days=10_000), "max_events": 100, "now": NOW}
    return runner.run(store.events.trim(**{**defaults, **limits}))


def test_what_all_have_is_removed_and_nothing_else(store, runner):
    runner.run(store.events.register(["file", "slow"]))
    append(store, runner, "a", "b")
    runner.run(store.events.delivered("file", pending(store, runner)[1].seq))
    assert trim(store, runner) == 0
    assert names(store, runner, "slow") == ["a", "b"]
    runner.run(store.events.delivered("slow", pending(store, runner, "slow")[0].seq))
    assert trim(store, runner) == 0
    assert names(store, runner, "slow") == ["b"]
    append(store, runner, "c")
    assert names(store, runner) == ["c"], "numbers are never used twice"


@pytest.mark.parametrize(
    ("limits", "lost", "left"),
    [
        ({"max_events": 2}, 3, ["d", "e"]),
        ({"max_age": timedelta(days=1)}, 5, []),
    ],
    ids=["too many", "too old"],
)
def test_what_is_too_much_is_given_up_and_counted(store, runner, limits, lost, left):
    runner.run(store.events.register(["file"]))
    append(store, runner, "a", "b", "c", "d", "e")
    assert trim(store, runner, **limits) == lost
    assert names(store, runner) == left


def test_without_receivers_nothing_is_kept(store, runner):
    runner.run(store.events.register([]))
    append(store, runner, "a")
    assert trim(store, runner) == 0
    runner.run(store.events.register(["file"]))
    assert names(store, runner) == []
