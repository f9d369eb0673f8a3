import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.worker.negotiation import choose, media_type, parse_accept

KNOWN = ("application/json", "text/csv", "application/x-npy")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "application/json"),
        ("text/csv", "text/csv"),
        ("Application/JSON; charset=utf-8", "application/json"),
        (" ; charset=utf-8", "application/json"),
    ],
)
def test_a_content_type_loses_its_parameters(value: str, expected: str) -> None:
    assert media_type(value) == expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", []),
        ("text/csv", ["text/csv"]),
        ("text/csv;q=0.5, application/json", ["application/json", "text/csv"]),
        ("a/a, b/b;q=1, c/c", ["a/a", "b/b", "c/c"]),
        ("a/a;q=0, b/b", ["b/b"]),
        ("a/a;q=much", ["a/a"]),
        ("a/a;level=1;Q=0.1, b/b;q=0.2", ["b/b", "a/a"]),
        (",, ,a/a", ["a/a"]),
    ],
)
def test_accept_is_read_with_its_weights(accept: str, expected: list[str]) -> None:
    assert parse_accept(accept) == expected


@pytest.mark.parametrize(
    ("accept", "known", "expected"),
    [
        pytest.param("", KNOWN, "text/csv", id="none-means-the-default"),
        pytest.param("*/*", KNOWN, "text/csv", id="any-means-the-default"),
        pytest.param("text/*", KNOWN, "text/csv", id="range-with-the-default"),
        pytest.param("application/*", KNOWN, "application/json", id="range-with-a-known-type"),
        pytest.param("image/*", KNOWN, "image/*", id="range-with-nothing"),
        pytest.param("image/png, text/csv;q=0.1", KNOWN, "text/csv", id="first-known"),
        pytest.param("image/png, image/gif", KNOWN, "image/png", id="nothing-known"),
        pytest.param("image/gif;q=0.2, image/png", (), "image/png", id="users-encoder-decides"),
        pytest.param("application/json, text/plain, */*", KNOWN, "application/json", id="axios"),
    ],
)
def test_one_type_is_chosen(accept: str, known: tuple[str, ...], expected: str) -> None:
    assert choose(accept, "text/csv", known) == expected


@given(st.text())
def test_no_header_breaks_the_choice(accept: str) -> None:
    assert choose(accept, "application/json", KNOWN)
