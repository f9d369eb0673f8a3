from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from clary.worker.handlers.stacking import CannotSplit, agree, shape_of, split, stack

A = np.arange(6.0).reshape(2, 3)
B = np.arange(3.0).reshape(1, 3) + 10


def listed(value: Any) -> Any:
    """Plain values, for comparing."""
    if isinstance(value, dict):
        return {name: listed(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(listed(part) for part in value)
    return value.tolist() if hasattr(value, "tolist") else value


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        pytest.param(A, B, [*A.tolist(), *B.tolist()], id="arrays"),
        pytest.param(np.ones((1, 2, 2)), np.zeros((2, 2, 2)), None, id="arrays-of-3-dimensions"),
        pytest.param(np.array([["a"]]), np.array([["long"]]), [["a"], ["long"]], id="texts"),
        pytest.param([[1, 2]], [[3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]], id="rows"),
        pytest.param([(1, "a")], [(2, "b")], [(1, "a"), (2, "b")], id="rows-that-are-tuples"),
        pytest.param([{"x": 1}], [{"x": 2}], [{"x": 1}, {"x": 2}], id="records"),
        pytest.param(
            {"ids": A, "mask": A > 1},
            {"mask": B > 1, "ids": B},
            {"ids": [*A.tolist(), *B.tolist()], "mask": [*(A > 1).tolist(), *(B > 1).tolist()]},
            id="dictionaries",
        ),
        pytest.param(
            {"a": [[1]], "b": np.ones((1, 1))},
            {"a": [[2], [3]], "b": np.zeros((2, 1))},
            {"a": [[1], [2], [3]], "b": [[1.0], [0.0], [0.0]]},
            id="dictionaries-of-different-things",
        ),
    ],
)
def test_these_stack(one: Any, other: Any, together: Any) -> None:
    shapes = shape_of(one), shape_of(other)
    assert shapes[0] is not None
    assert shapes[1] is not None
    assert shapes[0].key == shapes[1].key
    hash(shapes[0].key)
    batch = stack([one, other])
    shape = shape_of(batch)
    assert shape is not None
    assert shape.size == shapes[0].size + shapes[1].size
    if together is not None:
        assert listed(batch) == together
    first, second = split(batch, [shapes[0].size, shapes[1].size])
    assert listed(first) == listed(one)
    assert listed(second) == listed(other)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(np.ones(3), id="one-dimensional-array"),
        pytest.param(np.array(3), id="array-without-dimensions"),
        pytest.param(np.array({"a": 1}), id="object-in-an-array"),
        pytest.param(np.ones((0, 3)), id="no-rows"),
        pytest.param(np.ma.ones((1, 2)), id="subclass-of-array"),
        pytest.param([1, 2, 3], id="flat-list"),
        pytest.param(["a", "b"], id="list-of-texts"),
        pytest.param([], id="empty-list"),
        pytest.param([[1, 2], [3]], id="ragged-rows"),
        pytest.param([[1, 2], (3, 4)], id="mixed-rows"),
        pytest.param([{"a": 1}, {"b": 1}], id="different-records"),
        pytest.param({}, id="empty-dictionary"),
        pytest.param({"a": [[1]], "b": [[1], [2]]}, id="different-leading-sizes"),
        pytest.param({"a": [[1]], "b": 3}, id="dictionary-with-a-scalar"),
        pytest.param({"a": [[1], [2]], "b": [1, 2]}, id="dictionary-with-a-flat-list"),
        pytest.param("text", id="text"),
        pytest.param(b"bytes", id="bytes"),
        pytest.param(None, id="none"),
        pytest.param(((1, 2),), id="tuple"),
    ],
)
def test_these_are_never_taken_for_a_batch(value: Any) -> None:
    assert shape_of(value) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(A, A.astype(int), id="other-numbers"),
        pytest.param(A, np.ones((2, 4)), id="other-width"),
        pytest.param([[1, 2]], [[1, 2, 3]], id="other-length-of-rows"),
        pytest.param([{"a": 1}], [{"b": 1}], id="other-names"),
        pytest.param({"a": [[1]]}, {"b": [[1]]}, id="other-keys"),
        pytest.param(A, A.tolist(), id="array-and-list"),
    ],
)
def test_these_stack_but_not_together(one: Any, other: Any) -> None:
    first, second = shape_of(one), shape_of(other)
    assert first is not None
    assert second is not None
    assert first.key != second.key


@pytest.mark.parametrize(
    ("prediction", "sizes", "parts"),
    [
        pytest.param([1, 2, 3], [2, 1], [[1, 2], [3]], id="list"),
        pytest.param((1, 2, 3), [2, 1], [(1, 2), (3,)], id="tuple"),
        pytest.param(np.array([1, 2, 3]), [1, 2], [[1], [2, 3]], id="array"),
        pytest.param(
            {"label": ["a", "b"], "score": np.array([0.5, 1.0])},
            [1, 1],
            [{"label": ["a"], "score": [0.5]}, {"label": ["b"], "score": [1.0]}],
            id="dictionary",
        ),
        pytest.param(
            (np.array([1, 2, 3]), np.array([[4], [5], [6]])),
            [2, 1],
            [([1, 2], [[4], [5]]), ([3], [[6]])],
            id="two-outputs",
        ),
        pytest.param(
            [np.array([0, 0]), np.array([1]), np.array([2])],
            [1, 2],
            [[[0, 0]], [[1], [2]]],
            id="an-array-for-each-row",
        ),
    ],
)
def test_a_prediction_is_taken_apart(prediction: Any, sizes: list[int], parts: Any) -> None:
    assert listed(split(prediction, sizes)) == parts


@pytest.mark.parametrize(
    ("prediction", "text"),
    [
        pytest.param([1, 2], "3 rows, but the prediction has 2", id="short"),
        pytest.param([1, 2, 3, 4], "3 rows, but the prediction has 4", id="long"),
        pytest.param([], "no rows|has 0", id="empty"),
        pytest.param(np.float64(3), "float64 has no rows", id="number"),
        pytest.param(np.array(3), "ndarray has no rows", id="array-without-dimensions"),
        pytest.param("abc", "str has no rows", id="text-of-that-length"),
        pytest.param(b"abc", "bytes has no rows", id="bytes-of-that-length"),
        pytest.param({}, "dict has no rows", id="empty-dictionary"),
        pytest.param({"a": [1, 2, 3], "model": "v1"}, "str has no rows", id="scalar-inside"),
        pytest.param((part for part in "abc"), "generator has no rows", id="generator"),
        pytest.param([np.ones(3), np.ones(3), np.ones(3)], "one for each output", id="ambiguous"),
    ],
)
def test_a_prediction_without_a_part_for_each_is_refused(prediction: Any, text: str) -> None:
    with pytest.raises(CannotSplit, match=text):
        split(prediction, [2, 1])


@given(
    st_numpy.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(0, 3))),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_stacking_undoes_splitting(array: Any, sizes: list[int]) -> None:
    if sum(sizes) != len(array):
        with pytest.raises(CannotSplit):
            split(array, sizes)
        return
    parts = split(array, sizes)
    assert [len(part) for part in parts] == sizes
    assert np.array_equal(stack(parts), array, equal_nan=True)


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.0000001, True),
        (1.0, 1.1, False),
        (1, 1.0, True),
        (NAN, NAN, True),
        (1.0, "1.0", False),
        ("a", "a", True),
        ("a", "b", False),
        (1, 2, False),
        ([1.0, "a"], [1.0001, "a"], True),
        ([1.0], [1.0, 2.0], False),
        ({"a": [1.0]}, {"a": [1.0]}, True),
        ({"a": 1}, {"b": 1}, False),
        (np.array([1.0, NAN]), np.array([1.00001, NAN]), True),
        (np.array([1.0]), np.array([2.0]), False),
        (np.array([1.0]), np.array([[1.0]]), False),
        (np.array(["a"]), np.array(["a"]), True),
        (np.array([3]), np.array([4]), False),
        (np.array([1.0]), [1.0], False),
        ((np.ones(2),), (np.ones(2),), True),
    ],
)
def test_predictions_are_the_same_when_numbers_are_close(one: Any, other: Any, same: bool) -> None:
    assert agree(one, other) is same


# -- libraries that Clary's own environment may lack -----------------------------------------------


def test_data_frames_stack_by_their_columns() -> None:
    pd = pytest.importorskip("pandas")
    one, other = pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}), pd.DataFrame({"x": [3], "y": ["c"]})
    first, second = shape_of(one), shape_of(other)
    assert first is not None
    assert second is not None
    assert first.key == second.key
    batch = stack([one, other])
    assert list(batch.index) == [0, 1, 2]
    for part, whole in zip(split(batch, [2, 1]), (one, other), strict=True):
        assert part.equals(whole)
        assert agree(part, whole)
    series = split(batch["x"], [2, 1])
    assert list(series[1].index) == [0]
    assert not agree(series[0], series[1])
    assert shape_of(one.set_index("y")) is None
    other_columns = shape_of(one[["x"]])
    assert other_columns is not None
    assert other_columns.key != first.key


def test_tensors_stack() -> None:
    torch = pytest.importorskip("torch")
    one, other = torch.ones(2, 3), torch.zeros(1, 3)
    first, second = shape_of(one), shape_of(other)
    assert first is not None
    assert second is not None
    assert first.key == second.key
    parts = split(stack([one, other]), [2, 1])
    assert agree(parts[0], one)
    assert agree(parts[1], other)
    assert not agree(parts[0], torch.zeros(2, 3))
    assert shape_of(torch.ones(3)) is None
    assert shape_of(torch.ones(2, 3).to_sparse()) is None
    tokens = {"ids": torch.ones(1, 3, dtype=torch.long), "mask": torch.ones(1, 3)}
    assert shape_of(tokens) is not None
