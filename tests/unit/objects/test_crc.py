"""CRC arithmetic: against the standard library, check values and byte-by-byte definitions."""

import zlib

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.objects import crc
from clary.objects.crc import Crc64Nvme


def _crc64(data: bytes) -> int:
    """By the definition, bit by bit."""
    state = (1 << 64) - 1
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x9A6C9329AC4BC9B5 if state & 1 else 0)
    return state ^ ((1 << 64) - 1)


def test_the_check_value_of_crc64_nvme() -> None:
    digest = Crc64Nvme()
    digest.update(b"123456789")
    assert digest.digest().hex() == "ae8b14860a799888"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_pieces_give_what_the_whole_gives(pieces: list[bytes]) -> None:
    digest = Crc64Nvme()
    for piece in pieces:
        digest.update(piece)
    assert int.from_bytes(digest.digest(), "big") == _crc64(b"".join(pieces))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 32_767, 32_768, 32_769, 70_000])
def test_sizes_around_a_block(size: int) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    digest = Crc64Nvme()
    digest.update(data[: size // 3])
    digest.update(data[size // 3 :])
    assert int.from_bytes(digest.digest(), "big") == _crc64(data)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_crcs_of_two_pieces_make_that_of_the_whole(first: bytes, second: bytes) -> None:
    for polynomial, function in (
        (crc.CRC32, zlib.crc32),
        (crc.CRC32C, google_crc32c.value),
        (crc.CRC64NVME, _crc64),
    ):
        joined = polynomial.combine(function(first), function(second), len(second))
        assert joined == function(first + second)
