"""Filter patterns, as tables and by random ones."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.logs.patterns import parse


@pytest.mark.parametrize(
    ("pattern", "message", "wanted"),
    [
        ("", "anything", True),
        ("ERROR", "an ERROR here", True),
        ("ERROR", "an error here", False),
        ("ERROR timeout", "timeout, then ERROR", True),
        ("ERROR timeout", "ERROR", False),
        ('"out of memory"', "was out of memory", True),
        ('"out of memory"', "memory of out", False),
        (r'"say \"hi\""', 'they say "hi"', True),
        ("?ERROR ?WARN", "a WARN", True),
        ("?ERROR ?WARN", "an INFO", False),
        ("ERROR -retry", "ERROR", True),
        ("ERROR -retry", "ERROR, retry", False),
        ('-"to be" be', "be", True),
        ('-"to be" be', "to be", False),
        ("-ERROR", "fine", True),
        ("must ?ERROR ?WARN", "must", True),
        ("status=500", "status=500", True),
        ('?"a b" ?c', "a b", True),
        ('""', "anything", True),
    ],
)
def test_terms(pattern: str, message: str, wanted: bool) -> None:
    assert parse(pattern)(message) is wanted


A_MESSAGE = {
    "level": "ERROR",
    "status": 503,
    "took_ms": 12.5,
    "ok": False,
    "user": {"id": 7, "name": "Ada", "e-mail": None},
    "tags": ["blue", "green"],
    "a.b": "dotted",
    "path": "/api/v1/items",
}


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ('$.level = "ERROR"', True),
        ("$.level = ERROR", True),
        ('$.level = "error"', False),
        ('$.level != "INFO"', True),
        ('$.never != "INFO"', False),
        ("$.status = 503", True),
        ("$.status != 503", False),
        ("$.status >= 500 && $.status < 600", True),
        ("$.status > 503", False),
        ("$.took_ms <= 1.25e1", True),
        ("$.level > 3", False),
        ("$.ok IS FALSE", True),
        ("$.ok IS TRUE", False),
        ("$.user.e-mail IS NULL", True),
        ("$.user.id IS NULL", False),
        ("$.never NOT EXISTS", True),
        ("$.ok NOT EXISTS", False),
        ("$.ok EXISTS", True),
        ('$.tags[1] = "green"', True),
        ("$.tags[2] NOT EXISTS", True),
        ("$['a.b'] = dotted", True),
        ('$.path = "/api/*"', True),
        ('$.path = "*/v1/*s"', True),
        ('$.path = "*v2*"', False),
        ('$.path = "/api/v1/items*items"', False),
        ("$.path = /api/*", True),
        ("$.ok = 0", False),
        ("$.ok IS TRUE || $.user.id = 7", True),
        ("$.ok IS TRUE || $.user.id = 7 && $.status = 1", False),
        ("($.ok IS TRUE || $.user.id = 7) && $.status = 503", True),
        ('$.user = "Ada"', False),
        ("$.user.name.first = Ada", False),
    ],
)
def test_fields_of_json(condition: str, wanted: bool) -> None:
    assert parse("{ " + condition + " }")(json.dumps(A_MESSAGE)) is wanted
    assert parse("{" + condition + "}")("no JSON") is False


@pytest.mark.parametrize("message", ['{"a": ', "[1]", "{" * 100_000, '["a", {"a": 1}]', ""])
def test_what_is_no_json_object_matches_no_fields(message: str) -> None:
    assert parse("{ $.a = 1 || $.a NOT EXISTS }")(message) is False


@pytest.mark.parametrize(
    "pattern",
    [
        '"open',
        "{ $.a = 1",
        "{ $.a }",
        "{ $.a = }",
        "{ a = 1 }",
        "{ $.a = 1 } more",
        "{ $.a > b }",
        "{ $.a IS MAYBE }",
        "{ $.a NOT THERE }",
        "{ ($.a = 1 }",
        "{ $.a = 1 && }",
        "{}",
        "{ $.a = %x% }",
        "{" + "(" * 60 + "$.a = 1" + ")" * 60 + "}",
        "[a, b]",
        "%a.*b%",
        "a(b",
    ],
)
def test_what_is_no_pattern_is_refused_in_words(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Invalid (filter pattern: |character\(s\) in term)"):
        parse(pattern)


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_a_pattern_or_refused(pattern: str, message: str) -> None:
    try:
        matches = parse(pattern)
    except InvalidRequest:
        return
    assert matches(message) in (True, False)


@given(
    st.text(alphabet=st.sampled_from("{}()$.a1 \"=!<>&|[]*'NOTEXISULR%\\"), min_size=1, max_size=40)
)
def test_what_looks_like_a_selector_is_one_or_refused(text: str) -> None:
    try:
        matches = parse("{" + text + "}")
    except InvalidRequest:
        return
    assert matches('{"a": [1, {"a": "1"}], "1": null}') in (True, False)


PLAIN = st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(st.lists(PLAIN, max_size=4), st.lists(PLAIN, max_size=4), st.text(max_size=80))
def test_terms_mean_what_they_say(wanted: list[str], unwanted: list[str], message: str) -> None:
    pattern = " ".join([*wanted, *(f'-"{term}"' for term in unwanted)])
    assert parse(pattern)(message) is (
        all(term in message for term in wanted) and not any(term in message for term in unwanted)
    )


SCALARS = st.one_of(st.text(max_size=10), st.integers(-(10**6), 10**6), st.booleans(), st.none())


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), SCALARS, min_size=1))
def test_every_field_of_a_message_is_found_by_its_value(message: dict[str, Any]) -> None:
    text = json.dumps(message)
    for name, value in message.items():
        if value is None or isinstance(value, bool):
            condition = f"$.{name} IS {json.dumps(value).upper()}"
        elif isinstance(value, int):
            condition = f"$.{name} = {value}"
        else:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            condition = f'$.{name} = "{quoted}"'
        assert parse("{ " + condition + " }")(text), condition
        assert not parse("{ $." + name + " NOT EXISTS }")(text)
