import io
import json
import pickle
import sys

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from clary.worker import codecs
from clary.worker.codecs import UnsupportedFormat, decode, encode


@pytest.fixture
def without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)


def test_json_becomes_an_array() -> None:
    array = decode("[[1, 2], [3, 4]]", codecs.JSON)
    assert array.shape == (2, 2)


def test_a_json_object_becomes_an_array_of_one_object() -> None:
    assert decode('{"a": 1}', codecs.JSON).item() == {"a": 1}


def test_rows_of_different_lengths_become_objects() -> None:
    assert decode("[[1], [2, 3]]", codecs.JSON).dtype == object


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1.5,2.5", [1.5, 2.5]),
        ("a,b\nc,d", [["a", "b"], ["c", "d"]]),
    ],
)
def test_csv_becomes_an_array(text: str, expected: list[object]) -> None:
    assert decode(text, codecs.CSV).tolist() == expected


def test_json_lines_become_rows() -> None:
    assert decode(b"[1, 2]\n\n[3, 4]\n", codecs.JSON_LINES).tolist() == [[1, 2], [3, 4]]


def test_npy_travels_both_ways() -> None:
    array = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    again = decode(encode(array, codecs.NPY), codecs.NPY)
    assert again.dtype == array.dtype
    assert (again == array).all()


def test_pickled_npy_is_refused() -> None:
    file = io.BytesIO()
    numpy.save(file, numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        decode(file.getvalue(), codecs.NPY)
    with pytest.raises(ValueError, match="pickle"):
        decode(pickle.dumps([1]), codecs.NPY)


def test_npz_holds_a_sparse_matrix_or_arrays() -> None:
    file = io.BytesIO()
    sparse.save_npz(file, sparse.csr_matrix([[0, 1], [2, 0]]))
    assert decode(file.getvalue(), codecs.NPZ).toarray().tolist() == [[0, 1], [2, 0]]
    file = io.BytesIO()
    numpy.savez(file, a=numpy.array([1]), b=numpy.array([2]))
    assert {
        name: value.tolist() for name, value in decode(file.getvalue(), codecs.NPZ).items()
    } == {
        "a": [1],
        "b": [2],
    }


def test_arrays_are_written_as_json_at_any_depth() -> None:
    value = {"classes": numpy.array([1, 2]), "best": numpy.float64(0.5)}
    assert json.loads(encode(value, codecs.JSON)) == {"classes": [1, 2], "best": 0.5}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.array([[1, 2], [3, 4]]), b"1,2\n3,4\n"),
        (numpy.array([1, 2]), b"1\n2\n"),
        ([["a,b", 'say "c"']], b'"a,b","say ""c"""\n'),
        (7, b"7\n"),
    ],
)
def test_csv_has_a_line_for_each_row(value: object, expected: bytes) -> None:
    assert encode(value, codecs.CSV) == expected


def test_json_lines_have_a_line_for_each_row() -> None:
    assert encode([{"a": 1}, {"a": 2}], codecs.JSON_LINES) == b'{"a": 1}\n{"a": 2}\n'


def test_unknown_types_are_refused_with_their_status() -> None:
    with pytest.raises(UnsupportedFormat, match="image/png is not supported") as caught:
        decode(b"", "image/png")
    assert caught.value.status == 415
    with pytest.raises(UnsupportedFormat, match="image/png is not supported") as caught:
        encode(b"", "image/png")
    assert caught.value.status == 406


@pytest.mark.usefixtures("without_numpy")
def test_without_numpy_there_are_plain_values() -> None:
    assert decode('{"a": [1]}', codecs.JSON) == {"a": [1]}
    assert decode("1,2.5\nx,4\n", codecs.CSV) == [[1, 2.5], ["x", 4]]
    assert decode("1,2", codecs.CSV) == [1, 2]
    with pytest.raises(UnsupportedFormat, match="no numpy"):
        decode(b"", codecs.NPY)
    with pytest.raises(UnsupportedFormat, match="no numpy"):
        encode([1], codecs.NPY)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2)))
def test_json_lines_read_what_they_wrote(rows: list[list[float]]) -> None:
    assert decode(encode(rows, codecs.JSON_LINES), codecs.JSON_LINES).tolist() == rows
