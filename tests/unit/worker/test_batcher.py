import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.worker.batcher import (
    LOSS,
    PATIENCE,
    REST,
    Batching,
    BatchPolicy,
    CallCost,
    read_batching,
)

FAR = 1e9
CALL_S = 0.005


@pytest.mark.parametrize(
    ("environment", "size", "delay_s"),
    [
        ({}, 1, 0.1),
        ({"MODEL_MAX_BATCH_SIZE": "32"}, 32, 0.1),
        ({"MODEL_MAX_BATCH_SIZE": "8", "MODEL_MAX_BATCH_DELAY_MS": "5"}, 8, 0.005),
        ({"SAGEMAKER_TS_BATCH_SIZE": "4", "SAGEMAKER_TS_MAX_BATCH_DELAY": "20"}, 4, 0.02),
        ({"MODEL_MAX_BATCH_SIZE": "8", "SAGEMAKER_TS_BATCH_SIZE": "4"}, 8, 0.1),
        ({"MODEL_MAX_BATCH_SIZE": "", "SAGEMAKER_TS_BATCH_SIZE": " 4 "}, 4, 0.1),
        ({"MODEL_MAX_BATCH_SIZE": "8", "MODEL_MAX_BATCH_DELAY_MS": "0"}, 8, 0.0),
    ],
)
def test_the_environment_says_size_and_delay(
    environment: dict[str, str], size: int, delay_s: float
) -> None:
    assert read_batching(environment) == Batching(size, delay_s)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MODEL_MAX_BATCH_SIZE", "many"),
        ("MODEL_MAX_BATCH_SIZE", "0"),
        ("SAGEMAKER_TS_BATCH_SIZE", "-1"),
        ("MODEL_MAX_BATCH_SIZE", "4097"),
        ("MODEL_MAX_BATCH_DELAY_MS", "1.5"),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "60001"),
    ],
)
def test_an_environment_that_makes_no_sense_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{text}'"):
        read_batching({name: text})


# -- costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixed_s", "each_s"), [(0.005, 0.0), (0.0, 0.001), (0.004, 0.001), (0.001, 0.004)]
)
def test_the_fixed_part_of_a_call_is_found_when_sizes_differ(fixed_s: float, each_s: float) -> None:
    cost = CallCost()
    for size in [1, 15, 4, 8] * 20:
        cost.add(size, fixed_s + each_s * size)
    assert cost.fixed_s == pytest.approx(fixed_s, abs=1e-6)


def test_without_different_sizes_company_is_hoped_to_be_free() -> None:
    cost = CallCost()
    for _ in range(10):
        cost.add(1, CALL_S)
    assert cost.fixed_s == pytest.approx(CALL_S)


def test_an_estimate_that_cannot_be_renewed_is_doubted_in_time() -> None:
    cost = CallCost()
    for size in [1, 15] * 20:
        cost.add(size, 0.001 * size)
    assert cost.fixed_s == pytest.approx(0, abs=1e-9)
    for _ in range(300):
        cost.add(1, 0.001)
    assert cost.fixed_s > 0.0005


# -- when to begin --------------------------------------------------------------------------------


def a_policy(
    *, size: int = 1, waiting: int = 0, max_size: int = 32, max_delay_s: float = 0.1
) -> BatchPolicy:
    """A policy whose worker became free at 100.0, after calls of 5 ms whatever their size."""
    policy = BatchPolicy(Batching(max_size, max_delay_s))
    policy.ended(90.0, 7, CALL_S, 0)
    policy.ended(100.0, size, CALL_S, waiting)
    return policy


@pytest.mark.parametrize(
    ("answered", "left_over", "now", "waiting", "max_size", "waits_s"),
    [
        pytest.param(1, 0, 100.0, 1, 32, 0, id="a-single-client-comes-back"),
        pytest.param(1, 1, 100.0, 1, 32, 0.5, id="the-other-of-two-will-come-back"),
        pytest.param(15, 1, 100.0, 1, 32, 15 / 16, id="fifteen-of-sixteen-will-come-back"),
        pytest.param(1, 15, 100.0, 15, 32, 1 / 16, id="one-of-sixteen-is-worth-little"),
        pytest.param(16, 0, 100.0, 16, 32, 0, id="all-are-back"),
        pytest.param(16, 0, 100.0, 20, 32, 0, id="more-than-were-there"),
        pytest.param(32, 32, 100.0, 32, 32, 0, id="a-full-batch-waits"),
        pytest.param(32, 0, 100.0, 31, 32, 1 / 32, id="nearly-full"),
        pytest.param(16, 0, 100.1, 1, 32, 0, id="idle-for-a-while"),
        pytest.param(16, 0, 100.001, 8, 32, 0.5, id="half-of-them-a-millisecond-later"),
    ],
)
def test_a_free_worker_waits_for_those_that_will_come_back(
    answered: int, left_over: int, now: float, waiting: int, max_size: int, waits_s: float
) -> None:
    """The last column is the share of the call's time that the missing ones would save."""
    policy = a_policy(size=answered, waiting=left_over, max_size=max_size)
    begin_at = policy.begin_at(now, waiting, FAR)
    if waits_s == 0:
        assert begin_at <= now
    else:
        assert begin_at == pytest.approx(100.0 + PATIENCE * CALL_S * waits_s)


def test_the_model_that_was_never_called_begins_at_once() -> None:
    assert BatchPolicy(Batching(32, 0.1)).begin_at(100.0, 1, FAR) == 100.0


def test_no_wait_is_longer_than_the_longest_delay() -> None:
    policy = a_policy(size=16, max_delay_s=0.001)
    assert policy.begin_at(100.0, 1, FAR) == pytest.approx(100.001)
    assert a_policy(size=16, max_delay_s=0.0).begin_at(100.0, 1, FAR) == 100.0


def test_a_near_deadline_ends_the_wait() -> None:
    policy = a_policy(size=16)
    assert policy.begin_at(100.0, 1, 100.0 + 2 * CALL_S) <= 100.0
    assert policy.begin_at(100.0, 1, 100.001 + 2 * CALL_S) == pytest.approx(100.001)


def test_company_that_comes_shortens_the_wait() -> None:
    policy = a_policy(size=16)
    ends = [policy.begin_at(100.0, waiting, FAR) for waiting in range(1, 17)]
    assert ends == sorted(ends, reverse=True)
    assert ends[-1] == 100.0


def play(policy: BatchPolicy, *, cycles: int, arrives: int, clients: int) -> list[float]:
    """Let ``clients`` be answered in each cycle, of which ``arrives`` come back in time.

    Returns:
        How long each wait was.
    """
    waits = []
    now = 200.0
    for _ in range(cycles):
        policy.ended(now, clients, CALL_S, 0)
        begin_at = max(policy.begin_at(now, 1, FAR), now)
        waits.append(begin_at - now)
        now = begin_at
        policy.began(now, arrives)
        now += CALL_S
    return waits


def test_waiting_that_pays_goes_on() -> None:
    waits = play(a_policy(), cycles=200, arrives=16, clients=16)
    assert all(wait > 0 for wait in waits)


def test_waiting_in_vain_stops_for_a_while_and_is_tried_again() -> None:
    waits = play(a_policy(), cycles=200, arrives=1, clients=16)
    vain = [wait for wait in waits if wait]
    assert 0 < len(vain) < 20
    first_rest = waits.index(0.0)
    assert waits[first_rest : first_rest + REST] == [0.0] * REST
    # What it cost in all is little.
    assert sum(vain) < 200 * CALL_S * (-LOSS)


def test_a_call_whose_time_is_all_for_its_rows_is_not_waited_for() -> None:
    policy = BatchPolicy(Batching(32, 0.1))
    for size in [1, 15] * 20:
        policy.ended(100.0, size, 0.001 * size, 16 - size)
    assert policy.begin_at(100.0, 1, FAR) == pytest.approx(100.0)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 40), st.floats(0, 10), st.integers(0, 40), st.floats(0, 0.2),
            st.integers(1, 40),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_whatever_happens_no_wait_is_longer_than_allowed(
    cycles: list[tuple[int, float, int, float, int]],
) -> None:
    policy = BatchPolicy(Batching(32, 0.05))
    now = 100.0
    for size, took_s, waiting, later, there in cycles:
        now += took_s
        policy.ended(now, size, took_s, waiting)
        begin_at = policy.begin_at(now + later, there, FAR)
        assert math.isfinite(begin_at)
        assert begin_at <= max(now + later, now + 0.05 + 1e-9)
        now = max(now + later, begin_at)
        policy.began(now, there)
