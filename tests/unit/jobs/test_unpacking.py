import bz2
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.jobs.transform.cutting import BadInput
from clary.jobs.transform.reading import UNPACKED_BYTES, Unpacking


def unpack(packed: bytes, size: int) -> tuple[bytes, bool]:
    unpacking = Unpacking(packed[:3])
    found = []
    for position in range(0, len(packed), size):
        rest = packed[position : position + size]
        while True:
            unpacked, rest = unpacking.take(rest)
            found.append(unpacked)
            if not rest and unpacking.needs_input:
                break
    return b"".join(found), unpacking.is_whole


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.integers(1, 300))
def test_members_in_a_row_are_unpacked_however_they_come(
    pack: object, members: list[bytes], size: int
) -> None:
    assert callable(pack)
    packed = b"".join(pack(member) for member in members)
    assert unpack(packed, size) == (b"".join(members), True)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_small_object_that_holds_much_is_unpacked_in_steps(pack: object) -> None:
    assert callable(pack)
    much = b"a" * (2 * UNPACKED_BYTES + 7)
    assert unpack(pack(much), 1 << 20) == (much, True)


def test_what_ends_too_early_is_not_whole() -> None:
    packed = gzip.compress(b"hello" * 100)
    assert unpack(packed[:-4], 10)[1] is False


def test_what_is_broken_or_not_packed_is_refused() -> None:
    packed = bytearray(gzip.compress(b"hello" * 100))
    packed[-6] ^= 1
    with pytest.raises(BadInput, match="broken"):
        unpack(bytes(packed), 1000)
    with pytest.raises(BadInput, match="neither gzip nor bzip2"):
        Unpacking(b"a,b,c")
