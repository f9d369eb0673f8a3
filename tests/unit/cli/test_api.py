"""Faults become one line for people."""

import pytest

from clary.cli.api import Api, Refused, _fault, _reason
from clary.cli.failure import CommandFailed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"message": "There is no endpoint."}', "There is no endpoint."),
        (
            b'{"__type": "com.amazon#AccessDeniedException", "Message": "No."}',
            "AccessDeniedException: No.",
        ),
        (b"<html>busy</html>", "<html>busy</html>"),
        (b"{}", "HTTP status 404"),
        (b"\xff", "\ufffd"),
    ],
)
def test_faults_of_any_form_are_read(body: bytes, message: str) -> None:
    fault = _fault(404, body)
    assert fault.message == message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Refused("ValidationException", 'Could not find endpoint "x".'), True),
        (Refused("404", "Not Found"), True),
        (Refused("ValidationException", "1 validation error detected"), False),
        (Refused("AccessDenied", "no"), False),
    ],
)
def test_absence_has_many_spellings(fault: Refused, expected: bool) -> None:
    assert fault.not_found is expected


def test_the_systems_own_word_is_found_at_the_bottom() -> None:
    wrapped = RuntimeError("could not, could not")
    wrapped.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert _reason(wrapped) == "Connection refused"
    assert _reason(RuntimeError("no bottom")) == "no bottom"


@pytest.mark.parametrize("url", ["localhost:1234", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(CommandFailed, match="AWS_ENDPOINT_URL") as caught:
        Api({"AWS_ENDPOINT_URL": url}).get_json("/_clary/health")
    assert caught.value.status == 2
