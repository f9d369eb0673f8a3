"""`clary env`: whatever a value holds comes out of the shell as it went in."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.cli.shell import reachable_host, script, variables

VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=20, deadline=None)
@given(VALUES)
def test_a_value_survives_sh(value: str) -> None:
    lines = script({"SECRET": value}, "sh")
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{lines}\nprintf %s "$SECRET"'], capture_output=True, check=True
    )
    assert shown.stdout.decode() == value


def test_sessions_and_profiles_that_would_win_are_unset() -> None:
    lines = script({"A": "1"}, "sh")
    shown = subprocess.run(
        ["/bin/sh", "-c", f'eval "{lines}"; echo "[$AWS_SESSION_TOKEN$AWS_PROFILE]"'],
        env={"AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "p"},
        capture_output=True,
        check=True,
    )
    assert shown.stdout == b"[]\n"


def test_fish_and_powershell_quote_in_their_own_ways() -> None:
    values = {"A": "it's \\ $x", "B": "http://127.0.0.1:1"}
    fish = script(values, "fish").splitlines()
    assert fish[-2:] == [r"set -gx A 'it\'s \\ $x';", "set -gx B http://127.0.0.1:1;"]
    powershell = script(values, "powershell").splitlines()
    assert powershell[-2:] == [r"$Env:A = 'it''s \ $x'", "$Env:B = 'http://127.0.0.1:1'"]


@pytest.mark.parametrize(
    ("listening", "reachable"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_a_listening_address_becomes_one_to_connect_to(listening: str, reachable: str) -> None:
    assert reachable_host(listening) == reachable


def test_every_variable_that_sdks_read_is_set() -> None:
    values = variables(host="", port=1, access_key="a", secret_key="b", region="r")
    assert values == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "r",
        "AWS_DEFAULT_REGION": "r",
    }
