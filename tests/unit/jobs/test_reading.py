"""Ranges of input objects: those that are asked for, and those that are read ahead."""

import asyncio

import pytest

from clary.errors import NotFound
from clary.jobs.transform.reading import (
    AHEAD_BYTES,
    AHEAD_RANGES,
    RANGE_BYTES,
    RangeReader,
    read_ranges,
)
from clary.resources.transform_job import TransformFile


class Objects:
    """Objects of zeros that remember what was read of them."""

    def __init__(self) -> None:
        self.read_from: list[tuple[str, int]] = []

    async def read(self, bucket: str, key: str, start: int, count: int, etag: str) -> bytes:
        self.read_from.append((key, start))
        if key == "gone":
            raise NotFound("It is gone.")
        return bytes(count)


def a_file(position: int, ranges: int, key: str = "") -> TransformFile:
    key = key or f"file-{position}"
    size = ranges * RANGE_BYTES
    return TransformFile(
        position=position, bucket="b", key=key, etag="whole", size=size, output_key=f"{key}.out"
    )


def a_reader() -> tuple[RangeReader, Objects]:
    objects = Objects()
    return RangeReader(objects), objects  # type: ignore[arg-type]


async def size_of(reader: RangeReader, file: TransformFile, start: int = 0) -> int:
    return sum([len(data) async for data in read_ranges(reader, file, start)])


@pytest.mark.parametrize("start", [0, RANGE_BYTES])
def test_what_was_read_ahead_is_not_read_again(start: int) -> None:
    async def story() -> None:
        reader, objects = a_reader()
        file = a_file(0, AHEAD_RANGES + 2)
        reader.read_ahead([(file, start)])
        await asyncio.sleep(0)  # the tasks begin
        assert len(objects.read_from) == AHEAD_RANGES
        assert await size_of(reader, file, start) == file.size - start
        await reader.close()
        begins = range(start, file.size, RANGE_BYTES)
        assert sorted(objects.read_from) == [("file-0", begin) for begin in begins]

    asyncio.run(story())


def test_no_more_is_read_ahead_than_may_be() -> None:
    async def story() -> None:
        reader, objects = a_reader()
        reader.read_ahead((a_file(n, 10), 0) for n in range(100))
        await asyncio.sleep(0)
        assert len(objects.read_from) == AHEAD_BYTES // RANGE_BYTES
        await reader.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_an_object_that_is_gone_is_told_to_who_asks_for_it_and_to_nobody_else() -> None:
    async def story() -> None:
        reader, _ = a_reader()
        gone, other = a_file(0, 1, "gone"), a_file(1, 1)
        reader.read_ahead([(gone, 0), (other, 0)])
        assert await size_of(reader, other) == other.size
        with pytest.raises(NotFound):
            await size_of(reader, gone)
        reader.read_ahead([(gone, 0)])
        await asyncio.sleep(0)
        await reader.close()

    asyncio.run(story())
