import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import InvalidRequest
from clary.resources.alarm import AlarmValue
from clary.resources.alarm_expression import (
    All,
    Always,
    Any,
    Is,
    Not,
    Rule,
    children,
    holds,
    parse_rule,
)

ARN = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:"
ALARM, OK, NO_DATA = AlarmValue.ALARM, AlarmValue.OK, AlarmValue.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("TRUE", Always(True)),
        ("false", Always(False)),
        ("ALARM(a)", Is(ALARM, "a")),
        ('ALARM ( "a b (c)" )', Is(ALARM, "a b (c)")),
        ("OK(a b)", Is(OK, "a b")),
        (f"INSUFFICIENT_DATA({ARN}a)", Is(NO_DATA, "a")),
        (f'alarm("{ARN}a b")', Is(ALARM, "a b")),
        ("NOT OK(a)", Not(Is(OK, "a"))),
        ("NOT NOT TRUE", Not(Not(Always(True)))),
        ("NOT(TRUE)", Not(Always(True))),
        (
            "ALARM(a) OR ALARM(b) AND NOT ALARM(c)",
            Any((Is(ALARM, "a"), All((Is(ALARM, "b"), Not(Is(ALARM, "c")))))),
        ),
        (
            "(ALARM(a) OR ALARM(b)) AND OK(c)",
            All((Any((Is(ALARM, "a"), Is(ALARM, "b"))), Is(OK, "c"))),
        ),
        ("ALARM(AND) AND ALARM(NOT)", All((Is(ALARM, "AND"), Is(ALARM, "NOT")))),
        ("\n ALARM(a)\tOR\nTRUE ", Any((Is(ALARM, "a"), Always(True)))),
    ],
)
def test_rules_are_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "ALARM",
        "ALARM()",
        'ALARM("a)',
        "ALARM(a) ALARM(b)",
        "ALARM(a) AND",
        "AND ALARM(a)",
        "(ALARM(a)",
        "ALARM(a))",
        "NOT",
        "a",
        "TRUEISH",
        "ALARM(a) XOR ALARM(b)",
        "(" * 200 + "TRUE" + ")" * 200,
        " OR ".join(f"ALARM(a{n})" for n in range(101)),
        " OR ".join(["TRUE"] * 501),
        "NOT " * 400 + "TRUE",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Invalid AlarmRule"):
        parse_rule(text)


names = st.text(st.characters(exclude_characters='"', categories=("L", "N", "P", "Zs")), min_size=1)
leaves = st.one_of(
    st.builds(Always, st.booleans()),
    st.builds(Is, st.sampled_from(AlarmValue), names.filter(lambda name: "arn:" not in name)),
)
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(Any, st.lists(inner, min_size=2, max_size=4).map(tuple)),
    ),
    max_leaves=20,
)


def written(rule: Rule) -> str:
    match rule:
        case Always(value):
            return str(value).upper()
        case Is(value, alarm):
            return f'{value}("{alarm}")'
        case Not(of):
            return f"NOT ({written(of)})"
        case All(parts):
            return "(" + " AND ".join(f"({written(part)})" for part in parts) + ")"
        case Any(parts):
            return "(" + " OR ".join(f"({written(part)})" for part in parts) + ")"


@given(rules, st.sampled_from(AlarmValue))
def test_what_is_written_is_read(rule: Rule, value: AlarmValue) -> None:
    read = parse_rule(written(rule))
    assert read == rule
    assert children(read) == children(rule)
    negated = parse_rule(
        f"NOT {written(rule)}" if "(" in written(rule)[:1] else f"NOT ({written(rule)})"
    )
    assert holds(negated, lambda _: value) is not holds(rule, lambda _: value)


@given(st.text())
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        parse_rule(text)
    except InvalidRequest:
        pass


@given(st.text(alphabet='ALRMOKNTDEUFS() _"a', max_size=60))
def test_nearly_rules_are_rules_or_refused(text: str) -> None:
    try:
        parse_rule(text)
    except InvalidRequest:
        pass
