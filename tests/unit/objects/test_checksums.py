"""Declared checksums, and how those of parts add up."""

import base64
import hashlib
import zlib

import pytest

from clary.aws.fault import Fault
from clary.objects.bodies import BodyCheck
from clary.objects.checksums import (
    Declaration,
    check_type,
    combine,
    combine_etags,
    find_declaration,
)
from clary.objects.contents import Piece
from clary.objects.uploads import NamedPart, choose_parts


def _crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-checksum-mode": "ENABLED"}, None),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, Declaration("CRC32", "AAAAAA==")),
        ({"x-amz-sdk-checksum-algorithm": "crc32c"}, Declaration("CRC32C", None)),
        (
            {"x-amz-trailer": "x-amz-checksum-sha1", "x-amz-sdk-checksum-algorithm": "SHA1"},
            Declaration("SHA1", None, "x-amz-checksum-sha1"),
        ),
    ],
)
def test_what_headers_declare(headers: dict[str, str], expected: Declaration | None) -> None:
    assert find_declaration(headers) == expected


def test_a_body_is_measured_while_it_passes() -> None:
    check = BodyCheck({"x-amz-checksum-crc32": _crc(b"onetwo")})
    assert [*check.feed([b"one"]), *check.feed([b"two"])] == [b"one", b"two"]
    checked = check.finish()
    assert checked.size == 6
    assert checked.md5 == hashlib.md5(b"onetwo").hexdigest()
    assert checked.checksums == {"CRC32": _crc(b"onetwo")}


def test_checksums_of_parts_add_up_in_both_ways() -> None:
    bodies = [b"first part", b"second", b""]
    parts = [(_crc(body), len(body)) for body in bodies]
    assert combine("CRC32", "FULL_OBJECT", parts) == _crc(b"".join(bodies))
    raw = b"".join(zlib.crc32(body).to_bytes(4, "big") for body in bodies)
    assert combine("CRC32", "COMPOSITE", parts) == f"{_crc(raw)}-3"


def test_the_entity_tag_of_parts() -> None:
    tags = [hashlib.md5(body).hexdigest() for body in (b"a", b"b")]
    digest = hashlib.md5(hashlib.md5(b"a").digest() + hashlib.md5(b"b").digest()).hexdigest()
    assert combine_etags(tags) == f"{digest}-2"


@pytest.mark.parametrize(
    ("algorithm", "kind", "works"),
    [
        ("CRC32", "FULL_OBJECT", True),
        ("CRC32", "COMPOSITE", True),
        ("CRC64NVME", "FULL_OBJECT", True),
        ("CRC64NVME", "COMPOSITE", False),
        ("SHA256", "FULL_OBJECT", False),
    ],
)
def test_kinds_of_checksums(algorithm: str, kind: str, works: bool) -> None:
    if works:
        check_type(algorithm, kind)
    else:
        with pytest.raises(Fault, match="InvalidRequest"):
            check_type(algorithm, kind)


MIB5 = 5 * 1024**2


def _stored(**sizes: int) -> dict[int, Piece]:
    return {
        int(name[1:]): Piece(int(name[1:]), size, f"e{name[1:]}", 0.0, {"CRC32": "c"}, None, None)
        for name, size in sizes.items()
    }


def _named(number: int, etag: str = "", **checksums: str) -> NamedPart:
    return NamedPart(number, etag or f"e{number}", checksums)


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ([_named(1), _named(2)], None),
        ([_named(1)], None),
        ([_named(1), _named(2, CRC32="c")], None),
        ([], "MalformedXML"),
        ([_named(2), _named(1)], "InvalidPartOrder"),
        ([_named(1), _named(1)], "InvalidPartOrder"),
        ([_named(1), _named(2, "other")], "InvalidPart"),
        ([_named(1), _named(9)], "InvalidPart"),
        ([_named(1), _named(2, CRC32="other")], "InvalidPart"),
        ([_named(2), _named(3)], "EntityTooSmall"),
    ],
)
def test_parts_that_a_request_may_name(named: list[NamedPart], code: str | None) -> None:
    stored = _stored(p1=MIB5, p2=7, p3=MIB5)
    if code is None:
        assert [piece.number for piece in choose_parts(stored, named)] == [p.number for p in named]
    else:
        with pytest.raises(Fault) as caught:
            choose_parts(stored, named)
        assert caught.value.code == code
