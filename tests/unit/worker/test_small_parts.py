"""Specification, file names, status page, large replies, reasons."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.messages import MAX_BODY_PART, MORE, PART, REPLY, REPLY_WINDOW, FrameDecoder
from clary.status_page import (
    FIRST_PLACE,
    NO_PLACE,
    WORDS,
    PageReader,
    create_page,
    note_memory_limit,
    read_page,
)
from clary.worker.reasons import describe_ending, log_tail, shorten
from clary.worker.replies import LargeReply
from clary.worker.spec import WorkerFiles, parse_spec


def a_spec(**members: Any) -> dict[str, Any]:
    container = {
        "name": "primary", "style": "handler", "python": "/p", "cwd": "/c", "environment": {},
        "model_dir": "/m", "code_dir": "/c", "workers": 2,
    }  # fmt: skip
    return {
        "instance_id": "i-1", "run_dir": "/r", "log": "/l", "startup_timeout_s": 480,
        "ping_interval_s": 5, "ping_timeout_s": 2, "unhealthy_after": 3, "stop_timeout_s": 30,
        "load_attempts": 3, "load_attempts_within_s": 10, "invocation_timeout_s": 60,
        "hung_grace_s": 5, "containers": [container], "of_a_newer_version": 1, **members,
    }  # fmt: skip


def test_a_specification_is_read_and_what_is_newer_is_left_alone() -> None:
    spec = parse_spec(a_spec())
    assert spec.startup_timeout_s == 480
    assert spec.containers[0].program == "inference"
    assert spec.containers[0].argv == ()


@pytest.mark.parametrize(
    "data", [a_spec(containers=[]), a_spec(containers=[{}]), {"containers": []}]
)
def test_a_specification_that_lacks_something_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="specification"):
        parse_spec(data)


def test_workers_of_several_containers_have_files_of_their_own() -> None:
    assert WorkerFiles("/r", 0, 3).socket == "/r/w3.sock"
    assert WorkerFiles("/r", 2, 3).socket == "/r/c2w3.sock"


def test_the_status_page_is_seen_by_others(tmp_path: Path) -> None:
    path = str(tmp_path / "w0.status")
    assert read_page(path) is None
    page = create_page(path)
    assert read_page(path) == (0, 0)
    page[0], page[1] = 2**63, 7
    assert read_page(path) == (2**63, 7)


def test_what_was_begun_is_that_of_one_life_and_one_place(tmp_path: Path) -> None:
    path = str(tmp_path / "w0.status")
    page = create_page(path, 5)
    page[FIRST_PLACE], page[FIRST_PLACE + 1] = 17, 2**32 - 1
    one, other = (PageReader(path, 5, FIRST_PLACE + n) for n in (0, 1))
    stranger = PageReader(path, 6, FIRST_PLACE)
    assert (one.read(), other.read(), stranger.read()) == ((17, 0), (2**32 - 1, 0), None)

    os.unlink(path)
    create_page(path, 6)
    assert one.read() == (17, 0)  # also when the next worker is there

    for begun in (one, other, stranger):
        begun.close()


def test_the_host_says_why_it_kills_a_worker(tmp_path: Path) -> None:
    path = str(tmp_path / "w0.status")
    with pytest.raises(OSError, match="No such file"):
        note_memory_limit(path, 1024)
    page = create_page(path, 5)
    reader = PageReader(path, 5, FIRST_PLACE)
    page[FIRST_PLACE] = 3
    note_memory_limit(path, 1024)
    assert reader.read() == (3, 1024)
    reader.close()


def test_a_page_that_was_made_shorter_tells_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "w0.status")
    create_page(path, 5)
    begun = PageReader(path, 5, FIRST_PLACE)
    os.truncate(path, 40)
    assert begun.read() is None
    begun.close()


@pytest.mark.parametrize("place", [0, NO_PLACE, WORDS, 255])
def test_a_connection_without_a_place_is_told_nothing(tmp_path: Path, place: int) -> None:
    path = str(tmp_path / "w0.status")
    create_page(path, 5)
    with pytest.raises(OSError, match="no place"):
        PageReader(path, 5, place)


@given(size=st.integers(MAX_BODY_PART + 1, 3_000_000), credits=st.lists(st.integers(1, 500_000)))
def test_a_large_reply_stays_within_its_window_and_arrives_whole(
    size: int, credits: list[int]
) -> None:
    body = os.urandom(64) * (size // 64 + 1)
    reply = LargeReply(7, 11, (200, b"{}", body))
    allowed = REPLY_WINDOW
    sent = b""
    for credit in [*credits, len(body)]:
        while (frame := reply.next_frame()) is not None:
            sent += b"".join(frame)
        frames = FrameDecoder().feed(sent)
        assert sum(len(f.body) for f in frames) <= allowed
        reply.credit(credit)
        allowed += credit
    while (frame := reply.next_frame()) is not None:
        sent += b"".join(frame)
    frames = FrameDecoder().feed(sent)
    assert reply.is_sent
    assert b"".join(f.body for f in frames) == body
    assert [f.kind for f in frames] == [REPLY] + [PART] * (len(frames) - 1)
    assert [f.flags for f in frames] == [MORE] * (len(frames) - 1) + [0]


def test_the_last_whole_lines_of_a_log_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of the last attempt\n" + "clary-host: worker 0 ended\nfirst\n\nsecond\n")
    assert log_tail(str(log), len("of the last attempt\n")) == "first\nsecond"
    assert log_tail(str(log), 0, limit=10) == "second"
    log.write_text("x" * 300)
    assert len(log_tail(str(log), 0, limit=100)) == 100
    assert log_tail(str(tmp_path / "none"), 0) == ""


def test_a_log_that_was_rotated_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("new\n")
    assert log_tail(str(log), 1_000_000) == "new"


@pytest.mark.parametrize(
    ("wait_status", "report", "text", "is_final"),
    [
        (9, None, "its process was ended by signal 9 (SIGKILL)", False),
        (3 << 8, None, "its process ended with exit status 3", False),
        (3 << 8, {"message": "no model_fn", "final": True}, "no model_fn", True),
        (3 << 8, {"message": "weights are missing", "final": False}, "weights are missing", False),
        (3 << 8, "half a rep", "its process ended with exit status 3", False),
    ],
)
def test_an_ending_is_told_by_the_worker_or_by_its_status(
    tmp_path: Path, wait_status: int, report: Any, text: str, is_final: bool
) -> None:
    failure, log = tmp_path / "failure", tmp_path / "log"
    log.write_text("last words\n")
    if report is not None:
        failure.write_text(json.dumps(report) if isinstance(report, dict) else report)
    ending = describe_ending(wait_status, str(failure), str(log), 0)
    assert (ending.text, ending.is_final) == (text, is_final)
    assert ending.log_tail == "Last lines of the log:\nlast words"


@given(st.text(), st.integers(20, 200))
def test_a_shortened_text_fits(text: str, limit: int) -> None:
    assert len(shorten(text, limit)) <= limit
