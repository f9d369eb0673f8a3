"""Arithmetic of cyclic redundancy checks: joining two of them, and the CRC-64 of NVMe.

The standard library has no CRC-64/NVME, which is what the AWS CLI sends by default. Byte by byte in
Python it would run at a few MB/s. Here Python's long integers do the work: a block of 32 KiB is one
number, a polynomial over GF(2), whose first half is folded onto its second half with a few dozen
shifts and exclusive-ors, again and again, until 64 bits are left.

All polynomials are *reflected*, as these CRCs are: bit 0 is the highest power of x. Moving a bit up
by one is a division by x.
"""

from functools import cache


class Polynomial:
    """A generator polynomial.

    Args:
        width: Its degree.
        reflected: Its coefficients without the highest, reflected.
    """

    def __init__(self, width: int, reflected: int) -> None:
        self.width = width
        self.reflected = reflected
        self._one = 1 << (width - 1)
        self._shifts: dict[int, int] = {}

    def times_x(self, value: int) -> int:
        """Return value · x."""
        return (value >> 1) ^ (self.reflected if value & 1 else 0)

    def multiply(self, left: int, right: int) -> int:
        """Return left · right."""
        product = 0
        while left:
            if left & self._one:
                product ^= right
            left = (left << 1) & (2 * self._one - 1)
            right = self.times_x(right)
        return product

    def power_of_x(self, exponent: int) -> int:
        """Return x to a power."""
        result, base = self._one, self._one >> 1
        while exponent:
            if exponent & 1:
                result = self.multiply(result, base)
            base = self.multiply(base, base)
            exponent >>= 1
        return result

    def combine(self, first: int, second: int, second_bytes: int) -> int:
        """Return the CRC of two pieces in a row.

        Args:
            first: CRC of the first piece.
            second: CRC of the second piece.
            second_bytes: Length of the second piece.
        """
        # Parts of an upload mostly have one size: its power is worth remembering.
        shift = self._shifts.get(second_bytes)
        if shift is None:
            if len(self._shifts) >= 64:
                self._shifts.clear()
            shift = self._shifts[second_bytes] = self.power_of_x(8 * second_bytes)
        return self.multiply(first, shift) ^ second


CRC32 = Polynomial(32, 0xEDB88320)
CRC32C = Polynomial(32, 0x82F63B78)
CRC64NVME = Polynomial(64, 0x9A6C9329AC4BC9B5)

_BLOCK_BYTES = 32 * 1024
_TABLE_BITS = 512
"""Below this a table is quicker than folding."""
_CANDIDATES = 2048
"""Distances that are tried for a fold; a power of x with few terms saves work in each block."""
_ONES = (1 << 64) - 1


class Crc64Nvme:
    """CRC-64/NVME, piece by piece."""

    def __init__(self) -> None:
        self._state = _ONES
        self._rest = b""

    def update(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        end = len(data) - len(data) % _BLOCK_BYTES
        state = self._state
        for start in range(0, end, _BLOCK_BYTES):
            block = int.from_bytes(data[start : start + _BLOCK_BYTES], "little")
            state = _reduce(block ^ state, 8 * _BLOCK_BYTES + 64, _folds())
        self._state = state
        self._rest = data[end:]

    def digest(self) -> bytes:
        length = len(self._rest)
        # Leading zeros would change nothing but the state, which is why short ones are not padded.
        bits = 8 * max(length, 8) + 64
        if length < 8:
            state = self._state
            for byte in self._rest:
                state = (state >> 8) ^ _table()[(state ^ byte) & 0xFF]
        else:
            value = int.from_bytes(self._rest, "little") ^ self._state
            state = _reduce(value, bits, _folds())
        return (state ^ _ONES).to_bytes(8, "big")


def _reduce(value: int, bits: int, folds: tuple[tuple[int, int, tuple[int, ...]], ...]) -> int:
    """Return a reflected polynomial of so many bits modulo that of CRC-64/NVME."""
    for length, reach, shifts in folds:
        while bits - length >= reach:
            low = value & ((1 << length) - 1)
            value >>= length
            folded = 0
            for shift in shifts:
                folded ^= low << shift
            value ^= folded
            bits -= length
    table = _table()
    while bits > 64:
        value = (value >> 8) ^ table[value & 0xFF]
        bits -= 8
    return value


@cache
def _folds() -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """Return the folds for a block: (bits to take away, bits that must remain, shifts).

    The lowest ``length`` bits are moved up by ``distance`` places, that is, divided by a power of
    x, and multiplied by it again: modulo the polynomial, the power has at most 64 terms.
    """
    folds = []
    bits = 8 * _BLOCK_BYTES + 64
    while bits > _TABLE_BITS:
        length = max(8, (bits - 64 - _CANDIDATES // 4) // 16 * 8) if bits > 4096 else 128
        nearest = length + 64
        power = CRC64NVME.power_of_x(nearest)
        best_power, best_distance = power, nearest
        # The farther a fold reaches, the less it can take away: far ones only for long blocks.
        for distance in range(nearest + 1, nearest + (_CANDIDATES // 4 if bits > 4096 else 1)):
            power = CRC64NVME.times_x(power)
            if power.bit_count() < best_power.bit_count():
                best_power, best_distance = power, distance
        shifts = tuple(
            best_distance - (63 - bit) - length for bit in range(64) if best_power >> bit & 1
        )
        folds.append((length, best_distance, shifts))
        bits -= length
        if bits <= 4096:
            break
    return (*folds, *_short_fold())


def _short_fold() -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    length = 256
    distance = length + 64
    power = CRC64NVME.power_of_x(distance)
    shifts = tuple(distance - (63 - bit) - length for bit in range(64) if power >> bit & 1)
    return ((length, distance, shifts),)


@cache
def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = CRC64NVME.times_x(value)
        rows.append(value)
    return tuple(rows)
