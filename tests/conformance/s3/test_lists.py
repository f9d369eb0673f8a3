"""Lists of keys, with a stock client."""

from typing import Any

import pytest

from s3_errors import refused

TREE = ["a", "b/1", "b/2", "b/c/3", "d", "e/", "e/4", "ü/5", "z"]


@pytest.fixture
def tree(s3: Any, bucket: str) -> str:
    for key in TREE:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    return bucket


def _keys(page: Any) -> list[str]:
    return [found["Key"] for found in page.get("Contents", ())]


def _prefixes(page: Any) -> list[str]:
    return [found["Prefix"] for found in page.get("CommonPrefixes", ())]


def test_keys_come_in_the_order_of_their_bytes(s3: Any, bucket: str) -> None:
    keys = ["a", "A", "ä", "Z", "a/", "a-", "a\U0001f600", "a￰"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert _keys(s3.list_objects_v2(Bucket=bucket)) == sorted(keys, key=str.encode)


@pytest.mark.parametrize(
    ("prefix", "keys", "prefixes"),
    [
        ("", ["a", "d", "z"], ["b/", "e/", "ü/"]),
        ("b/", ["b/1", "b/2"], ["b/c/"]),
        ("b", [], ["b/"]),
        ("e/", ["e/", "e/4"], []),
        ("nothing", [], []),
    ],
)
def test_what_lies_behind_a_delimiter_is_rolled_up(
    s3: Any, tree: str, prefix: str, keys: list[str], prefixes: list[str]
) -> None:
    for call in (s3.list_objects, s3.list_objects_v2):
        page = call(Bucket=tree, Prefix=prefix, Delimiter="/")
        assert (_keys(page), _prefixes(page)) == (keys, prefixes)
        assert page["IsTruncated"] is False


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2", "list_object_versions"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_pages_together_are_the_whole_list(
    s3: Any, tree: str, operation: str, size: int, delimiter: str
) -> None:
    found: list[str] = []
    pages = s3.get_paginator(operation).paginate(
        Bucket=tree, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    for page in pages:
        entries = page.get("Versions", page.get("Contents", ()))
        here = [entry["Key"] for entry in entries] + _prefixes(page)
        assert len(here) <= size
        found += here
    whole = ["a", "b/", "d", "e/", "z", "ü/"] if delimiter else TREE
    assert sorted(found) == sorted(whole)


def test_a_list_can_start_behind_a_key(s3: Any, tree: str) -> None:
    assert _keys(s3.list_objects_v2(Bucket=tree, StartAfter="b/2"))[:2] == ["b/c/3", "d"]
    assert _keys(s3.list_objects(Bucket=tree, Marker="e/4")) == ["z", "ü/5"]
    page = s3.list_objects(Bucket=tree, Marker="b/", Delimiter="/")
    assert (_keys(page), _prefixes(page)) == (["d", "z"], ["e/", "ü/"])


def test_a_page_says_how_many_it_has(s3: Any, tree: str) -> None:
    page = s3.list_objects_v2(Bucket=tree, MaxKeys=4, Delimiter="/")
    assert (page["KeyCount"], page["MaxKeys"], page["IsTruncated"]) == (4, 4, True)
    empty = s3.list_objects_v2(Bucket=tree, MaxKeys=0)
    assert (empty["KeyCount"], empty["IsTruncated"]) == (0, False)


def test_the_first_list_names_owners_the_second_on_request(s3: Any, tree: str) -> None:
    assert "Owner" in s3.list_objects(Bucket=tree)["Contents"][0]
    assert "Owner" not in s3.list_objects_v2(Bucket=tree)["Contents"][0]
    assert "Owner" in s3.list_objects_v2(Bucket=tree, FetchOwner=True)["Contents"][0]


def test_a_wrong_token_or_limit_is_refused(s3: Any, tree: str) -> None:
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=tree, ContinuationToken="nonsense")
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=tree, MaxKeys=-1)


def test_an_empty_bucket_has_an_empty_list(s3: Any, bucket: str) -> None:
    page = s3.list_objects_v2(Bucket=bucket)
    assert page["KeyCount"] == 0
    assert "Contents" not in page
