"""What is done with records around the model: InputFilter, join, OutputFilter, assembling.

CSV rows are lists of columns, JSON records are values. The bytes of what no filter touches stay as
they are.
"""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol

from clary.jobs.transform.cutting import BadInput
from clary.resources.record_paths import RecordPath, RecordPathError
from clary.resources.transform_job import DataProcessing

OUTPUT_MEMBER = "SageMakerOutput"
INPUT_MEMBER = "SageMakerInput"

Rows = list[Sequence[str]]


class Processor(Protocol):
    """Changes bodies on their way to the model and back."""

    def prepare(self, body: bytes) -> bytes:
        """Return what the model gets of a payload.

        Raises:
            BadInput: A filter cannot be used on a record.
        """
        ...

    def finish(self, body: bytes, reply: bytes) -> bytes:
        """Return what is written, of a payload as it was read and the model's answer to it.

        Raises:
            BadInput: They cannot be joined, or filtered.
        """
        ...


def make_processor(
    processing: DataProcessing, content_type: str | None, accept: str | None, *, by_line: bool
) -> Processor | None:
    """Return what does this processing; None: there is nothing to do.

    Args:
        processing: What to do.
        content_type: Of requests, which says what the input is.
        accept: Of replies; None: the same.
        by_line: Whether each line is a record.
    """
    if not processing.is_needed:
        return None
    into = _media_type(content_type)
    out = _media_type(accept) or into
    return RecordProcessor(processing, _format(into, by_line), _format(out, by_line))


def assemble(reply: bytes, *, lines: bool) -> bytes:
    """Return a reply as it is written: with AssembleWith Line, it ends its last line."""
    return reply + b"\n" if lines and reply and not reply.endswith(b"\n") else reply


class RecordProcessor:
    """Filters and joins records of a request one by one."""

    def __init__(self, processing: DataProcessing, into: "Format", out: "Format") -> None:
        self._processing = processing
        self._into = into
        self._out = out

    def prepare(self, body: bytes) -> bytes:
        path = self._processing.input_filter
        if path.is_root:
            return body
        return self._into.write(self._into.select(path, self._into.read(body)), body)

    def finish(self, body: bytes, reply: bytes) -> bytes:
        records = self._out.read(reply)
        if self._processing.joins:
            before = self._into.read(body)
            if len(before) != len(records):
                raise BadInput(
                    f"The model answered {len(before)} records with {len(records)}, which cannot "
                    "be joined."
                )
            records = self._out.join(before, records)
        return self._out.write(self._out.select(self._processing.output_filter, records), reply)


class Format(Protocol):
    """A kind of records."""

    def read(self, body: bytes) -> list[Any]: ...

    def write(self, records: list[Any], like: bytes) -> bytes: ...

    def select(self, path: RecordPath, records: list[Any]) -> list[Any]: ...

    def join(self, before: list[Any], after: list[Any]) -> list[Any]: ...


class CsvFormat:
    """A row per line; columns quoted by RFC 4180, without line ends inside."""

    def read(self, body: bytes) -> list[Any]:
        lines = _lines(_text(body))
        if b'"' not in body:
            return [line.split(",") for line in lines]
        return [next(csv.reader([line])) if line else [""] for line in lines]

    def write(self, records: list[Any], like: bytes) -> bytes:
        if b'"' not in like and not any('"' in c or "," in c for r in records for c in r):
            text = "\n".join(map(",".join, records)) + "\n"
        else:
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n").writerows(records)
            text = buffer.getvalue()
        return text.encode()

    def select(self, path: RecordPath, records: list[Any]) -> list[Any]:
        if path.is_root:
            return records
        try:
            return [path.columns(row) for row in records]
        except RecordPathError as error:
            raise BadInput(error.message) from error

    def join(self, before: list[Any], after: list[Any]) -> list[Any]:
        return [[*row, *more] for row, more in zip(before, after, strict=True)]


class JsonFormat:
    """A value per line, or one in all."""

    def __init__(self, *, by_line: bool) -> None:
        self._by_line = by_line

    def read(self, body: bytes) -> list[Any]:
        text = _text(body)
        texts = [line for line in _lines(text) if line.strip()] if self._by_line else [text]
        try:
            return [json.loads(one) for one in texts]
        except ValueError as error:
            raise BadInput(f"A record is no JSON: {error}") from error

    def write(self, records: list[Any], like: bytes) -> bytes:
        texts = [json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in records]
        return ("\n".join(texts) + ("\n" if self._by_line else "")).encode()

    def select(self, path: RecordPath, records: list[Any]) -> list[Any]:
        try:
            return [path.select(record) for record in records]
        except RecordPathError as error:
            raise BadInput(error.message) from error

    def join(self, before: list[Any], after: list[Any]) -> list[Any]:
        return [
            {**record, OUTPUT_MEMBER: output}
            if isinstance(record, dict)
            else {INPUT_MEMBER: record, OUTPUT_MEMBER: output}
            for record, output in zip(before, after, strict=True)
        ]


def _format(media_type: str, by_line: bool) -> Format:
    if media_type == "text/csv":
        return CsvFormat()
    return JsonFormat(by_line=by_line or media_type == "application/jsonlines")


def _media_type(value: str | None) -> str:
    return (value or "").partition(";")[0].strip().lower()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"A record is no UTF-8: {error}") from error


def _lines(text: str) -> list[str]:
    # Not splitlines, which also splits at characters that may stand inside of a column.
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return lines
