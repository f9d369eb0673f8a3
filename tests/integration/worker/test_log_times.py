"""The host notes when lines were written, holds its log, and cuts it."""

from pathlib import Path

import pytest

from clary.log_times import older_path, read_ends
from clary.logs.file_streams import FileStream
from clary.presence import is_locked
from instances import an_instance, wait_for

TALKER = """
import os

def model_fn(model_dir): print("loaded", flush=True)
def input_fn(data, content_type): return data if isinstance(data, str) else data.decode()
def predict_fn(text, model):
    print(text, flush=True)
    if text == "die": os._exit(3)
    return "{}"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def lines(path: Path) -> list[str]:
    stream = FileStream("s", path, path.stat().st_mtime)
    return [event.message for event in stream.events(stream.parts[0].base, stream.end)]


def test_the_host_notes_what_its_workers_write(directory: Path) -> None:
    with an_instance(directory) as instance:
        client = instance.ready(TALKER)
        client.invoke("hello")
        wait_for(lambda: "hello" in lines(instance.log_file), "the line to be noted")
        assert lines(instance.log_file) == ["loaded", "hello"]
        assert is_locked(instance.log_file)
        instance.stop()
    ends = read_ends(str(instance.log_file))
    assert ends is not None
    assert ends[1][0] == instance.log_file.stat().st_size
    assert not is_locked(instance.log_file)


def test_the_host_cuts_a_log_that_is_too_long(directory: Path) -> None:
    with an_instance(directory) as instance:
        client = instance.ready(TALKER, log_max_bytes=4000)
        for number in range(30):
            client.invoke(f"{number:03d} " + "x" * 200)
        older = Path(older_path(str(instance.log_file)))
        wait_for(older.exists, "the log to be cut")
        client.invoke("after")
        wait_for(lambda: "after" in lines(instance.log_file), "the last line to be noted")
        numbers = [int(line[:3]) for line in lines(instance.log_file) if line[:3].isdigit()]
        assert numbers == list(range(numbers[0], 30))
        assert len(numbers) >= 8
        assert older.stat().st_size <= 2000
