"""Uploads by HTML forms (POST Object): ``multipart/form-data`` whose last field is the file.

The fields come first and are small; the file is streamed. A policy among the fields says what may
be uploaded (``signing/post_policy.py``).
"""

from collections.abc import AsyncIterator, Sequence

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from clary.aws.fault import Fault
from clary.errors import AccessDenied
from clary.objects.bodies import Checked
from clary.objects.contents import Check
from clary.signing.post_policy import PostPolicy

MAX_FIELDS_BYTES = 20 * 1024
"""Most bytes of all fields before the file."""


def is_form(method: str, content_type: str) -> bool:
    return method == "POST" and content_type.lower().startswith("multipart/form-data")


class Form:
    """A form that is being received.

    Args:
        batches: The request's body.
        content_type: The request's, with the boundary.

    Raises:
        Fault: ``MalformedPOSTRequest``.
    """

    def __init__(self, batches: AsyncIterator[list[bytes]], content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise _malformed()
        self._batches = batches
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
            },
        )
        self.fields: dict[str, str] = {}
        """By lower-case name; complete once ``read_fields`` has returned."""

        self._name = ""
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._in_file = False
        self._file_ended = False
        self._data: list[bytes] = []
        self._fields_bytes = 0

    async def read_fields(self) -> None:
        """Read up to the file.

        Raises:
            Fault: ``MalformedPOSTRequest``, or there is no file.
        """
        while not self._in_file:
            batch = await anext(self._batches, None)
            if batch is None:
                raise Fault(
                    "InvalidArgument", "POST requires exactly one file upload per request.", 400
                )
            self._parse(batch)

    async def file(self) -> AsyncIterator[list[bytes]]:
        """Yield the bytes of the file as they come.

        Raises:
            Fault: ``MalformedPOSTRequest``, also when the form is cut short.
        """
        while True:
            if self._data:
                data, self._data = self._data, []
                yield data
            batch = await anext(self._batches, None)
            if batch is None:
                break
            self._parse(batch)
        if not self._file_ended:
            raise _malformed()

    def _parse(self, batch: Sequence[bytes]) -> None:
        try:
            for data in batch:
                self._parser.write(data)
        except (FormParserError, UnicodeDecodeError) as error:
            raise _malformed() from error

    # Callbacks of the parser --------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._value = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode().lower()
        if self._name == "file" and not self._file_ended:
            self._in_file = True
            file_name = options.get(b"filename", b"").decode()
            self.fields = {
                name: value.replace("${filename}", file_name.rpartition("/")[2])
                if name != "policy"
                else value
                for name, value in self.fields.items()
            }

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file and not self._file_ended:
            self._data.append(data[start:end])
        elif not self._file_ended:
            self._count(end - start)
            self._value += data[start:end]

    def _on_part_end(self) -> None:
        if self._in_file:
            # Fields behind the file are ignored, as S3 does.
            self._file_ended = True
        elif self._name:
            self.fields[self._name] = self._value.decode()

    def _count(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > MAX_FIELDS_BYTES and not self._in_file:
            raise Fault(
                "MaxPostPreDataLengthExceededError",
                "Your POST request fields preceding the upload file were too large.",
                400,
            )


class PolicyCheck:
    """Holds a file's size against its policy on the way to another check."""

    def __init__(self, check: Check, policy: PostPolicy) -> None:
        self._check = check
        self._policy = policy
        self._size = 0

    def feed(self, pieces: Sequence[bytes]) -> Sequence[bytes]:
        self._size += sum(map(len, pieces))
        self._check_size(complete=False)
        return self._check.feed(pieces)

    def finish(self) -> Checked:
        self._check_size(complete=True)
        return self._check.finish()

    def _check_size(self, *, complete: bool) -> None:
        try:
            self._policy.check_size(self._size, complete=complete)
        except AccessDenied as error:
            raise Fault(error.code, error.message, 400) from error


def _malformed() -> Fault:
    return Fault(
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
        400,
    )
