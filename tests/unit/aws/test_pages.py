"""Pages, and the tokens between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.aws.pages import cut_page, decode_token, encode_token
from clary.errors import InvalidRequest

QUERY = {"NameContains": "a", "SortBy": "Name"}
POSITIONS = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(POSITIONS)
def test_a_position_survives_its_token(position: object) -> None:
    assert decode_token(encode_token(position, QUERY), QUERY) == position


def test_page_size_and_token_may_change_between_pages() -> None:
    token = encode_token(["b", 2], {**QUERY, "MaxResults": 5})
    assert decode_token(token, {**QUERY, "MaxResults": 7, "NextToken": token}) == ["b", 2]


def test_a_token_of_another_query_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="NextToken"):
        decode_token(encode_token(1, QUERY), {**QUERY, "SortBy": "CreationTime"})


@given(st.text())
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_token(token, QUERY)


def test_a_page_has_a_token_only_when_more_follows() -> None:
    rows = ["a", "b", "c"]
    page, token = cut_page(rows, 2, lambda row: row, QUERY)
    assert page == ["a", "b"]
    assert token is not None
    assert decode_token(token, QUERY) == "b"
    assert cut_page(rows, 3, lambda row: row, QUERY) == (rows, None)
