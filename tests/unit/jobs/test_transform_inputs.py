import pytest

from clary.jobs.transform.cutting import BadInput
from clary.jobs.transform.inputs import names_below, parse_augmented_manifest, parse_manifest


@pytest.mark.parametrize(
    ("prefix", "keys", "names"),
    [
        ("in/", ["in/a.csv", "in/deep/b.csv"], ["a.csv", "deep/b.csv"]),
        ("in", ["in/a.csv"], ["a.csv"]),
        ("in/da", ["in/data.csv", "in/day/x"], ["data.csv", "day/x"]),
        ("in/a.csv", ["in/a.csv"], ["a.csv"]),
        ("", ["a.csv", "deep/b.csv"], ["a.csv", "deep/b.csv"]),
        ("data", ["data/data2", "data2"], ["data/data2", "data2"]),
    ],
)
def test_what_the_output_is_called(prefix: str, keys: list[str], names: list[str]) -> None:
    assert names_below(prefix, keys) == names


def test_a_manifest_is_a_prefix_and_keys() -> None:
    entries = parse_manifest(b'[{"prefix": "s3://b/in/"}, "a", "c/d"]')
    assert [(place.uri, name) for place, name in entries] == [
        ("s3://b/in/a", "a"),
        ("s3://b/in/c/d", "c/d"),
    ]


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'["a"]', b'[{"prefix": "b"}]', b'[{"prefix": "s3://b"}, 1]']
)
def test_what_is_no_manifest(content: bytes) -> None:
    with pytest.raises(BadInput):
        parse_manifest(content)


def test_an_augmented_manifest_has_an_object_per_line() -> None:
    content = b'{"source-ref": "s3://b/x/1.jpg"}\n\n{"source-ref": "s3://b/x/y/2.jpg", "l": 0}\n'
    entries = parse_augmented_manifest(content)
    assert [(place.key, name) for place, name in entries] == [
        ("x/1.jpg", "1.jpg"),
        ("x/y/2.jpg", "y/2.jpg"),
    ]


@pytest.mark.parametrize("line", [b"x", b"[]", b"{}", b'{"source": "inline"}'])
def test_what_is_no_augmented_manifest(line: bytes) -> None:
    with pytest.raises(BadInput, match="Line 1"):
        parse_augmented_manifest(line)
