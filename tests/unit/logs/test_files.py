import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.logs import files
from clary.logs.files import End, Follower, find_log_files, log_path, read_end


def write(root: Path, instance: str, text: bytes = b"", *, variant: str = "v", at: int = 0) -> Path:
    path = log_path(root, "digits", variant, instance)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    os.utime(path, (at, at))
    return path


def test_logs_are_found_in_the_order_of_their_last_line(tmp_path: Path) -> None:
    write(tmp_path, "i-2", at=1)
    write(tmp_path, "i-1", at=2)
    write(tmp_path, "i-3", at=3, variant="w")

    def ids(**filters: str) -> list[str]:
        return [log.instance_id for log in find_log_files(tmp_path, "digits", **filters)]

    assert ids() == ["i-2", "i-1", "i-3"]
    assert ids(variant="w") == ["i-3"]
    assert ids(instance_id="i-1") == ["i-1"]
    assert ids(variant="w", instance_id="i-1") == []
    assert find_log_files(tmp_path, "other") == []


@pytest.mark.parametrize("bad", ["..", "a/b", "", "*", "a\0", "x" * 64])
def test_what_is_no_name_leads_nowhere(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidRequest, match="is no name"):
        find_log_files(tmp_path, bad)
    if bad:
        with pytest.raises(InvalidRequest, match="is no name"):
            find_log_files(tmp_path, "digits", variant=bad)
        with pytest.raises(InvalidRequest, match="is no name"):
            find_log_files(tmp_path, "digits", instance_id=bad)


LINES = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(LINES, st.integers(0, 35))
def test_the_end_of_a_file_is_its_last_lines(
    tmp_path: Path, lines: list[bytes], count: int
) -> None:
    path = write(tmp_path, "i-1", b"".join(line + b"\n" for line in lines) + b"rest")

    end = read_end(path, count)

    assert end.lines == (lines[-count:] if count else [])
    assert end.rest == b"rest"
    assert end.position == path.stat().st_size - 4


def test_the_end_of_a_long_file_is_read_in_blocks(tmp_path: Path) -> None:
    lines = [f"{i} {'x' * (i % 3000)}".encode() for i in range(1000)]
    path = write(tmp_path, "i-1", b"\n".join(lines) + b"\n")

    assert read_end(path, 300).lines == lines[-300:]
    assert read_end(path, 5000).lines == lines


def test_of_an_endless_line_a_bounded_part_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_TAIL_BYTES", 200_000)
    path = write(tmp_path, "i-1", b"x" * 1_000_000 + b"\nlast\n")

    assert read_end(path, 10).lines == [b"last"]


def test_a_file_that_is_not_there_has_no_end(tmp_path: Path) -> None:
    assert read_end(tmp_path / "none.log", 5) == files.End([], b"", 0)


def test_a_follower_gives_whole_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    follower = Follower(path)
    assert follower.read_lines() == []

    with path.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert follower.read_lines() == [b"one"]
        file.write(b"o\n\nthree\n")
        assert follower.read_lines() == [b"two", b"", b"three"]
    assert follower.read_lines() == []


def test_a_file_that_was_cut_back_or_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"a long first line\nand a rest")
    follower = Follower(path)
    assert follower.read_lines() == [b"a long first line"]

    path.write_bytes(b"cut\n")
    assert follower.read_lines() == [b"cut"]

    other = tmp_path / "b.log"
    other.write_bytes(b"replaced by a longer one\n")
    other.replace(path)
    assert follower.read_lines() == [b"replaced by a longer one"]


def test_a_follower_reads_a_bounded_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_READ_BYTES", 10)
    path = tmp_path / "a.log"
    path.write_bytes(b"12345\n67890\nabc\n")
    follower = Follower(path)

    assert [follower.read_lines() for _ in range(3)] == [[b"12345"], [b"67890", b"abc"], []]


def test_an_endless_line_is_passed_on_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 4)
    path = tmp_path / "a.log"
    path.write_bytes(b"1234567890")
    follower = Follower(path)

    assert follower.read_lines() == [b"1234", b"5678"]
    with path.open("ab") as file:
        file.write(b"\n")
    assert follower.read_lines() == [b"90"]


def test_containers_of_a_pipeline_have_logs_of_their_own(tmp_path: Path) -> None:
    instance = log_path(tmp_path, "digits", "AllTraffic", "i-1")
    instance.with_suffix("").mkdir(parents=True)
    instance.write_text("")
    for name in ("prepare", "model"):
        (instance.with_suffix("") / f"{name}.log").write_text("line\n")
    found = find_log_files(tmp_path, "digits")
    assert {log.stream for log in found} == {"i-1", "i-1/prepare", "i-1/model"}
    assert {(log.variant, log.instance_id) for log in found} == {("AllTraffic", "i-1")}
    assert find_log_files(tmp_path, "digits", instance_id="i-2") == []


def test_what_was_cut_off_a_log_belongs_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text("three\nfour")
    (tmp_path / "x.log.1").write_text("one\ntwo\n")
    assert read_end(tmp_path / "x.log", 2).lines == [b"two", b"three"]
    assert read_end(tmp_path / "x.log", 9).lines == [b"one", b"two", b"three"]
    assert read_end(tmp_path / "x.log", 1) == End([b"three"], b"four", 6)
