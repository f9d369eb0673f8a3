"""Pages of keys against the plain definition of a list, on SQLite in memory."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.aws.fault import Fault
from clary.objects.listing import Page, decode_token, encode_token, list_page, successor

KEYS = st.text(alphabet="ab/-ü\U0001f600", min_size=1, max_size=5)


def _bucket(keys: set[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE objects (bucket TEXT, key BLOB, content INTEGER, size INTEGER, etag TEXT, "
        "modified_at REAL, attributes TEXT, PRIMARY KEY (bucket, key)) WITHOUT ROWID"
    )
    connection.executemany(
        "INSERT INTO objects VALUES ('b', ?, 1, 2, 'e', 0, '{}')", [(key.encode(),) for key in keys]
    )
    return connection


def _expected(keys: set[str], prefix: str, delimiter: str) -> list[str]:
    found = set()
    for key in keys:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if end < 0 else key[: end + len(delimiter)])
    return sorted(found, key=str.encode)


def _entries(page: Page) -> list[str]:
    return sorted([item.key for item in page.objects] + page.prefixes, key=str.encode)


@settings(deadline=None)
@given(
    st.sets(KEYS, max_size=25),
    st.sampled_from(["", "a", "a/", "b", "ü", "/"]),
    st.sampled_from(["", "/", "-", "a/"]),
    st.integers(1, 6),
)
def test_pages_together_are_the_whole_list(
    keys: set[str], prefix: str, delimiter: str, limit: int
) -> None:
    connection = _bucket(keys)
    found: list[str] = []
    after = ""
    while True:
        page = list_page(
            connection, "b", prefix=prefix, delimiter=delimiter, after=after, limit=limit
        )
        entries = _entries(page)
        assert len(entries) <= limit
        found += entries
        if not page.is_truncated:
            break
        after = decode_token(encode_token(page.last))
    connection.close()
    assert found == _expected(keys, prefix, delimiter)


@settings(deadline=None)
@given(st.sets(KEYS, max_size=25), KEYS)
def test_a_list_behind_a_key_has_all_that_is_greater(keys: set[str], after: str) -> None:
    connection = _bucket(keys)
    page = list_page(connection, "b", after=after)
    connection.close()
    greater = [key for key in keys if key.encode() > after.encode()]
    assert _entries(page) == sorted(greater, key=str.encode)


def test_other_buckets_are_not_listed() -> None:
    connection = _bucket({"a"})
    assert _entries(list_page(connection, "c")) == []
    connection.close()


def test_a_group_costs_one_search_however_much_it_holds() -> None:
    connection = _bucket({f"a/{number}" for number in range(5000)} | {"b"})
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection.set_progress_handler(count, 10)
    page = list_page(connection, "b", delimiter="/")
    connection.close()
    assert _entries(page) == ["a/", "b"]
    assert steps < 50


def test_the_successor_is_behind_all_that_start_so() -> None:
    assert successor(b"a/") == b"a0"
    assert successor(b"a\xff") == b"b"
    assert successor(b"") is None


@pytest.mark.parametrize("token", ["", "x", "ä", "AAAA", "!!!!"])
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    with pytest.raises(Fault, match="InvalidArgument"):
        decode_token(token)
