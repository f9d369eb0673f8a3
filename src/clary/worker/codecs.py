"""Default decoders and encoders: what happens to bodies when the user has written no function.

As the inference toolkit does it (JSON and CSV become numpy arrays), with three differences: pickled
NPY is refused, JSON Lines are known, and an interpreter without numpy gets plain lists.
numpy and scipy are the model's own and are imported only when a default is in use.
"""

import csv
import io
import json
from typing import Any, Callable, Dict, List, Optional, Tuple

JSON = "application/json"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
JSON_LINES = "application/jsonlines"
JSON_LINES_TYPES = (JSON_LINES, "application/x-jsonlines", "application/jsonl")
TEXT_TYPES = (JSON, CSV)
"""Bodies of exactly these types reach functions as ``str``, all others as ``bytes``."""


class UnsupportedFormat(Exception):
    """A default decoder or encoder has no way to read or write a content type.

    Args:
        content_type: The one that was asked for.
        status: 415 for a request's body, 406 for a reply's.
        hint: What to do about it.
    """

    def __init__(self, content_type: str, status: int, hint: str) -> None:
        super().__init__(f"Content type {content_type} is not supported by this framework. {hint}")
        self.status = status


def numpy_or_none() -> Optional[Any]:
    """Return the model's numpy, if it has one."""
    try:
        import numpy  # noqa: PLC0415 (optional and heavy: belongs to the model's interpreter)
    except ImportError:
        return None
    return numpy


# Decoding ---------------------------------------------------------------------------------


def decode(data: Any, content_type: str) -> Any:
    """Turn a request's body into what ``predict_fn`` gets.

    Args:
        data: ``str`` for ``TEXT_TYPES``, else ``bytes``.
        content_type: Without parameters.

    Raises:
        UnsupportedFormat: The type is unknown, or needs numpy and there is none.
        ValueError: The body is not of that type.
    """
    decoder = _DECODERS.get(content_type)
    if decoder is None:
        raise UnsupportedFormat(
            content_type, 415, "Please implement input_fn to deserialize the request data."
        )
    return decoder(data)


def _as_array(value: Any) -> Any:
    numpy = numpy_or_none()
    if numpy is None:
        return value
    try:
        return numpy.array(value)
    except ValueError:
        # Rows of different lengths. numpy refuses to guess since 1.24; the toolkits' numpy did not.
        return numpy.array(value, dtype=object)


def _decode_json(data: Any) -> Any:
    return _as_array(json.loads(data))


def _decode_json_lines(data: Any) -> Any:
    text = data.decode() if isinstance(data, bytes) else data
    return _as_array([json.loads(line) for line in text.splitlines() if line.strip()])


def _decode_csv(data: Any) -> Any:
    numpy = numpy_or_none()
    if numpy is not None:
        return numpy.genfromtxt(io.StringIO(data), dtype=None, delimiter=",", encoding="utf-8")
    rows = [[_number(cell) for cell in row] for row in csv.reader(io.StringIO(data)) if row]
    return rows[0] if len(rows) == 1 else rows


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _decode_npy(data: Any) -> Any:
    numpy = numpy_or_none()
    if numpy is None:
        raise UnsupportedFormat(NPY, 415, "The model's environment has no numpy.")
    return numpy.load(io.BytesIO(data), allow_pickle=False)


def _decode_npz(data: Any) -> Any:
    """Return a scipy sparse matrix, or a dictionary of arrays when the archive holds none."""
    numpy = numpy_or_none()
    if numpy is None:
        raise UnsupportedFormat(NPZ, 415, "The model's environment has no numpy.")
    with numpy.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if "format" not in arrays:
        return arrays
    try:
        from scipy import sparse  # noqa: PLC0415 (optional: belongs to the model's interpreter)
    except ImportError as error:
        raise UnsupportedFormat(NPZ, 415, "The model's environment has no scipy.") from error
    return sparse.load_npz(io.BytesIO(data))


_DECODERS: Dict[str, Callable[[Any], Any]] = {
    JSON: _decode_json,
    CSV: _decode_csv,
    NPY: _decode_npy,
    NPZ: _decode_npz,
    **{name: _decode_json_lines for name in JSON_LINES_TYPES},
}


# Encoding ---------------------------------------------------------------------------------


def encode(prediction: Any, accept: str) -> bytes:
    """Turn what ``predict_fn`` returned into a reply's body.

    Args:
        prediction: Plain values, or anything with ``tolist`` such as an array.
        accept: One type, without parameters.

    Raises:
        UnsupportedFormat: The type is unknown, or needs numpy and there is none.
        TypeError: The value cannot be written so.
    """
    encoder = _ENCODERS.get(accept)
    if encoder is None:
        raise UnsupportedFormat(
            accept, 406, "Please implement output_fn to serialize the prediction."
        )
    return encoder(prediction)


def encode_json(value: Any) -> bytes:
    """Return JSON; whatever has ``tolist`` is converted, at any depth."""
    return json.dumps(value, default=_plain).encode()


def _plain(value: Any) -> Any:
    convert = getattr(value, "tolist", None)
    if convert is None:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return convert()


def _rows(value: Any) -> List[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _encode_json_lines(value: Any) -> bytes:
    return b"".join(encode_json(row) + b"\n" for row in _rows(value))


def _encode_csv(value: Any) -> bytes:
    """One line for each row; of a one-dimensional value one line for each element."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    for row in _rows(value):
        writer.writerow(_rows(row))
    return output.getvalue().encode()


def _encode_npy(value: Any) -> bytes:
    numpy = numpy_or_none()
    if numpy is None:
        raise UnsupportedFormat(NPY, 406, "The model's environment has no numpy.")
    output = io.BytesIO()
    numpy.save(output, value, allow_pickle=False)
    return output.getvalue()


_ENCODERS: Dict[str, Callable[[Any], bytes]] = {
    JSON: encode_json,
    CSV: _encode_csv,
    NPY: _encode_npy,
    **{name: _encode_json_lines for name in JSON_LINES_TYPES},
}

ENCODED_TYPES: Tuple[str, ...] = tuple(_ENCODERS)
