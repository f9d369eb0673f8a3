"""Dashboards are kept as they came."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

BODY = json.dumps({"widgets": [{"type": "text", "properties": {"markdown": "Gr\u00fc\u00dfe"}}]})


def test_a_dashboard_is_put_got_listed_and_deleted(any_cloudwatch: Any) -> None:
    reply = any_cloudwatch.put_dashboard(DashboardName="Main-1", DashboardBody="{}")
    assert reply["DashboardValidationMessages"] == []
    any_cloudwatch.put_dashboard(DashboardName="Main-1", DashboardBody=BODY)
    any_cloudwatch.put_dashboard(DashboardName="Other", DashboardBody="{}")
    found = any_cloudwatch.get_dashboard(DashboardName="Main-1")
    assert json.loads(found["DashboardBody"]) == json.loads(BODY)
    assert found["DashboardArn"] == "arn:aws:cloudwatch::123456789012:dashboard/Main-1"
    listed = any_cloudwatch.list_dashboards(DashboardNamePrefix="Main")["DashboardEntries"]
    assert [(each["DashboardName"], each["Size"]) for each in listed] == [
        ("Main-1", len(BODY.encode()))
    ]
    any_cloudwatch.delete_dashboards(DashboardNames=["Main-1", "Other"])
    with pytest.raises(ClientError) as caught:
        any_cloudwatch.get_dashboard(DashboardName="Main-1")
    error = caught.value.response
    assert error["Error"]["Code"] == "ResourceNotFound"
    assert error["Error"]["Message"] == "Dashboard Main-1 does not exist"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_of_several_that_are_to_be_deleted_all_must_be_there(cloudwatch: Any) -> None:
    cloudwatch.put_dashboard(DashboardName="Kept", DashboardBody="{}")
    with pytest.raises(ClientError, match="Dashboard missing does not exist"):
        cloudwatch.delete_dashboards(DashboardNames=["Kept", "missing"])
    assert cloudwatch.get_dashboard(DashboardName="Kept")["DashboardName"] == "Kept"


@pytest.mark.parametrize(
    ("name", "body"), [("a b", "{}"), ("a", "no JSON"), ("a", "[]"), ("a", '{"widgets": 1}')]
)
def test_a_wrong_dashboard_is_refused(cloudwatch: Any, name: str, body: str) -> None:
    with pytest.raises(cloudwatch.exceptions.DashboardInvalidInputError) as caught:
        cloudwatch.put_dashboard(DashboardName=name, DashboardBody=body)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterInput"
