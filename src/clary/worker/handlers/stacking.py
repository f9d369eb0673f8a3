"""Puts the inputs of several requests into one, and takes the prediction apart again.

Only what has a leading dimension beyond doubt is stacked: arrays and tensors of at least two
dimensions, data frames, lists of rows, and dictionaries of these with one leading size. A flat list
or a one-dimensional array may be one row or many values, and is never stacked.

The model's libraries are recognised by what it has imported already; nothing is imported here.
"""

import math
import sys
from typing import Any, Hashable, List, NamedTuple, Optional, Sequence, Tuple

RELATIVE_TOLERANCE = 1e-2
ABSOLUTE_TOLERANCE = 1e-4
"""Batched and single calls may add in another order, and in half precision that shows."""


class CannotSplit(Exception):
    """A prediction has no part for each request."""


class Shape(NamedTuple):
    """How a value stacks."""

    key: Hashable
    """Values stack with those of the same key."""
    size: int
    """Length of the leading dimension."""


# Stacking ---------------------------------------------------------------------------------


def shape_of(value: Any) -> Optional[Shape]:
    """Return how a value stacks; None when it does not."""
    kind = type(value)
    if kind is list:
        return _shape_of_rows(value)
    if kind is dict:
        return _shape_of_dict(value)
    if _is(value, "numpy", "ndarray"):
        if value.ndim < 2 or not len(value):
            return None
        # Strings of different widths are one kind of value.
        dtype = value.dtype.kind if value.dtype.kind in "US" else value.dtype
        return Shape(("array", dtype, value.shape[1:]), len(value))
    if _is(value, "torch", "Tensor"):
        if value.ndim < 2 or not len(value) or value.layout is not sys.modules["torch"].strided:
            return None
        return Shape(("tensor", value.dtype, value.device, value.shape[1:]), len(value))
    if _is(value, "pandas", "DataFrame"):
        if not len(value) or not _has_plain_index(value):
            return None
        return Shape(("frame", tuple(value.columns), tuple(value.dtypes)), len(value))
    return None


def stack(values: Sequence[Any]) -> Any:
    """Return one value of all, in order. All have the same ``Shape.key``."""
    first = values[0]
    kind = type(first)
    if kind is list:
        return [row for value in values for row in value]
    if kind is dict:
        return {name: stack([value[name] for value in values]) for name in first}
    if _is(first, "numpy", "ndarray"):
        return sys.modules["numpy"].concatenate(values)
    if _is(first, "torch", "Tensor"):
        return sys.modules["torch"].cat(list(values))
    return sys.modules["pandas"].concat(values, ignore_index=True)


def _shape_of_rows(value: List[Any]) -> Optional[Shape]:
    if not value:
        return None
    row_type = type(value[0])
    if row_type is dict:
        names = tuple(value[0])
        same = all(type(row) is dict and tuple(row) == names for row in value)
        return Shape(("records", names), len(value)) if same else None
    if row_type in (list, tuple):
        width = len(value[0])
        same = all(type(row) is row_type and len(row) == width for row in value)
        return Shape(("rows", row_type, width), len(value)) if same else None
    return None


def _shape_of_dict(value: "dict[Any, Any]") -> Optional[Shape]:
    shapes = [(name, shape_of(part)) for name, part in value.items()]
    sizes = {shape.size if shape is not None else 0 for _, shape in shapes}
    if len(sizes) != 1 or sizes == {0}:
        return None
    key = frozenset((name, shape.key) for name, shape in shapes if shape is not None)
    return Shape(("dict", key), sizes.pop())


# Splitting --------------------------------------------------------------------------------


def split(prediction: Any, sizes: Sequence[int]) -> List[Any]:
    """Return the part of each request.

    Args:
        prediction: For all rows together: a list, an array, a frame, or a dictionary, tuple or
            list of these with one leading size.
        sizes: Rows of each request.

    Raises:
        CannotSplit: It is nothing of that kind, or not as long as the rows were.
    """
    total = sum(sizes)
    kind = type(prediction)
    if kind is dict and prediction:
        columns = {name: split(part, sizes) for name, part in prediction.items()}
        return [{name: part[i] for name, part in columns.items()} for i in range(len(sizes))]
    if kind in (list, tuple) and prediction:
        # Models with several outputs return one array for each.
        if all(_is_array(part) and _length(part) == total for part in prediction):
            if len(prediction) == total:
                raise CannotSplit(
                    f"a {kind.__name__} of {total} arrays of length {total} may be one array for "
                    "each row, or one for each output"
                )
            outputs = [split(part, sizes) for part in prediction]
            return [kind(part[i] for part in outputs) for i in range(len(sizes))]
    elif not _is_array(prediction) or not getattr(prediction, "ndim", 1):
        raise CannotSplit(f"{_name(prediction)} has no rows")
    if len(prediction) != total:
        raise CannotSplit(f"the input had {total} rows, but the prediction has {len(prediction)}")
    parts = []
    start = 0
    for size in sizes:
        parts.append(_slice(prediction, start, start + size))
        start += size
    return parts


def _is_array(value: Any) -> bool:
    return (
        _is(value, "numpy", "ndarray")
        or _is(value, "torch", "Tensor")
        or _is(value, "pandas", "DataFrame")
        or _is(value, "pandas", "Series")
    )


def _length(value: Any) -> int:
    """Return the length of the leading dimension; 0-dimensional arrays have none."""
    return len(value) if getattr(value, "ndim", 1) else -1


def _slice(value: Any, start: int, end: int) -> Any:
    if not hasattr(value, "iloc"):
        return value[start:end]
    part = value.iloc[start:end]
    # A request on its own would have been counted from 0.
    return part.reset_index(drop=True) if _has_plain_index(value) else part


def _has_plain_index(frame: Any) -> bool:
    """Whether the rows of a frame are merely counted."""
    index = frame.index
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _is(value: Any, module: str, name: str) -> bool:
    """Whether a value is of exactly this class; subclasses may behave in their own way."""
    library = sys.modules.get(module)
    return library is not None and type(value) is getattr(library, name, None)


def _name(value: Any) -> str:
    return f"a prediction of type {type(value).__name__}"


# Comparing --------------------------------------------------------------------------------


def agree(one: Any, other: Any) -> bool:
    """Whether two predictions are the same: numbers nearly, all else exactly."""
    if isinstance(one, float) or isinstance(other, float):
        return _are_close(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(agree(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(agree, one, other))
    if _is_array(one):
        return _arrays_agree(one, other)
    return bool(one == other)


def _are_close(one: Any, other: Any) -> bool:
    try:
        if math.isnan(one) and math.isnan(other):
            return True
        return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    except TypeError:
        return False


def _arrays_agree(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    if hasattr(one, "iloc"):
        return agree(_cells(one), _cells(other))
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(one) is numpy.ndarray and one.dtype.kind in "fc":
        tolerances = {"rtol": RELATIVE_TOLERANCE, "atol": ABSOLUTE_TOLERANCE}
        return bool(numpy.allclose(one, other, equal_nan=True, **tolerances))
    torch = sys.modules.get("torch")
    if torch is not None and type(one) is torch.Tensor and one.is_floating_point():
        tolerances = {"rtol": RELATIVE_TOLERANCE, "atol": ABSOLUTE_TOLERANCE}
        return bool(torch.allclose(one, other, equal_nan=True, **tolerances))
    return agree(one.tolist(), other.tolist())


def _cells(frame: Any) -> Tuple[Any, Any]:
    columns = list(frame.columns) if hasattr(frame, "columns") else [frame.name]
    return columns, frame.to_numpy().tolist()
