import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.api.sagemaker.definitions import (
    definition_of,
    parse_listing,
    parse_tags,
    serialize_page,
    without_empties,
)
from clary.aws.pages import encode_token
from clary.errors import InvalidRequest
from clary.store import Listing, Page

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"a": {}}, {}),
        ({"a": {"b": []}}, {}),
        ({"a": [{}]}, {"a": [{}]}),
        ({"a": False, "b": 0, "c": "", "d": None}, {"a": False, "b": 0, "c": ""}),
    ],
)
def test_empty_structures_are_left_out_but_not_false_values(
    given: dict[str, object], expected: dict[str, object]
) -> None:
    assert without_empties(given) == expected


@given(st.dictionaries(st.text(), values))
def test_leaving_out_twice_leaves_out_no_more(value: dict[str, object]) -> None:
    once = without_empties(value)

    assert without_empties(once) == once


def test_a_definition_has_neither_name_nor_tags() -> None:
    request = {"ModelName": "m", "Tags": [{"Key": "a", "Value": "b"}], "VpcConfig": {"Subnets": []}}

    assert definition_of(request, "ModelName") == {}


def test_a_tag_that_is_there_twice_is_refused() -> None:
    tag = {"Key": "a", "Value": "1"}
    with pytest.raises(InvalidRequest, match="'a' is there twice"):
        parse_tags({"Tags": [tag, tag]})
    assert parse_tags({"Tags": [tag]}) == {"a": "1"}
    assert parse_tags({}) == {}


def test_a_list_starts_with_the_newest_ten() -> None:
    assert parse_listing({}) == Listing(sort_by="CreationTime", descending=True, limit=10)


def test_a_token_leads_to_where_the_page_ended() -> None:
    request = {"SortBy": "Name", "SortOrder": "Ascending", "NameContains": "x", "MaxResults": 5}
    reply = serialize_page("Models", [], Page((), ("x-5", "x-5")), request)

    listing = parse_listing({**request, "NextToken": reply["NextToken"], "MaxResults": 7})

    assert listing == Listing(
        sort_by="Name", descending=False, name_contains="x", limit=7, after=("x-5", "x-5")
    )


def test_the_last_page_has_no_token() -> None:
    assert serialize_page("Models", [], Page((), None), {}) == {"Models": []}


@pytest.mark.parametrize("position", [None, 5, ["a"], ["a", 5], [{}, "a"], ["a", "b", "c"]])
def test_a_token_with_another_content_is_refused(position: object) -> None:
    with pytest.raises(InvalidRequest, match="NextToken is invalid"):
        parse_listing({"NextToken": encode_token(position, {})})
