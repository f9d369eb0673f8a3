"""IAM by stock boto3: what Terraform and the SageMaker SDK call."""

import json
import uuid

import pytest
from botocore.exceptions import ClientError

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
FULL_ACCESS = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


@pytest.fixture
def iam(server):
    return server.client("iam")


@pytest.fixture
def role(iam):
    name = f"role-{uuid.uuid4().hex[:12]}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    return name


def test_a_role_is_read_back_as_it_was_written(iam):
    made = iam.create_role(
        RoleName="written",
        Path="/ml/",
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Description="serves",
        Tags=[{"Key": "team", "Value": "ml"}],
    )["Role"]
    found = iam.get_role(RoleName="written")["Role"]
    assert found["Arn"] == made["Arn"] == "arn:aws:iam::123456789012:role/ml/written"
    assert found["AssumeRolePolicyDocument"] == TRUST
    assert (found["Description"], found["Tags"]) == ("serves", [{"Key": "team", "Value": "ml"}])


def test_inline_policies_attachments_and_the_deletion_that_terraform_does(iam, role):
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*"}]}
    document["Statement"][0]["Resource"] = "*"
    iam.put_role_policy(RoleName=role, PolicyName="s3", PolicyDocument=json.dumps(document))
    assert iam.get_role_policy(RoleName=role, PolicyName="s3")["PolicyDocument"] == document
    iam.attach_role_policy(RoleName=role, PolicyArn=FULL_ACCESS)
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert attached == [{"PolicyName": "AmazonSageMakerFullAccess", "PolicyArn": FULL_ACCESS}]
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName=role)
    assert iam.list_instance_profiles_for_role(RoleName=role)["InstanceProfiles"] == []
    iam.detach_role_policy(RoleName=role, PolicyArn=FULL_ACCESS)
    iam.delete_role_policy(RoleName=role, PolicyName="s3")
    iam.delete_role(RoleName=role)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=role)


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role",
        "arn:aws:iam::aws:policy/AnnouncedNextYear",
        "arn:aws:iam::aws:policy/new-path/AnnouncedNextYear",
    ],
)
def test_any_policy_of_aws_can_be_attached(iam, role, arn):
    iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
    assert document["Document"]["Statement"]


def test_a_policy_of_ones_own_must_be_there(iam, role):
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.attach_role_policy(RoleName=role, PolicyArn="arn:aws:iam::123456789012:policy/none")


@pytest.mark.parametrize("kind", ["role", "user", "group"])
def test_a_policy_that_is_attached_cannot_be_deleted(iam, role, kind):
    name = role if kind == "role" else f"{kind}-{uuid.uuid4().hex[:12]}"
    if kind == "user":
        iam.create_user(UserName=name)
    elif kind == "group":
        iam.create_group(GroupName=name)
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*"}]}
    document["Statement"][0]["Resource"] = "*"
    arn = iam.create_policy(PolicyName=f"of-{name}", PolicyDocument=json.dumps(document))["Policy"][
        "Arn"
    ]
    whose = {f"{kind.title()}Name": name}
    getattr(iam, f"attach_{kind}_policy")(**whose, PolicyArn=arn)
    with pytest.raises(iam.exceptions.DeleteConflictException, match="attached to entities"):
        iam.delete_policy(PolicyArn=arn)
    getattr(iam, f"detach_{kind}_policy")(**whose, PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_policy(PolicyArn=arn)


def test_the_policies_of_aws_are_listed(iam):
    pages = iam.get_paginator("list_policies").paginate(Scope="AWS")
    names = {policy["PolicyName"] for page in pages for policy in page["Policies"]}
    assert {"AmazonSageMakerFullAccess", "AmazonS3ReadOnlyAccess"} <= names
    assert iam.list_policies(Scope="Local")["Policies"] == []


def test_simulation_allows_everything(iam, role):
    results = iam.simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::123456789012:role/{role}",
        ActionNames=["sagemaker:CreateModel", "s3:GetObject"],
        ResourceArns=["arn:aws:s3:::b/*"],
    )["EvaluationResults"]
    assert [(r["EvalActionName"], r["EvalDecision"]) for r in results] == [
        ("sagemaker:CreateModel", "allowed"),
        ("s3:GetObject", "allowed"),
    ]


def test_the_role_that_sts_names_is_there(server, iam):
    arn = server.sts.get_caller_identity()["Arn"]
    assert iam.get_role(RoleName=arn.split("/")[1])["Role"]["Arn"].endswith(":role/clary")


def test_bad_calls_are_refused_in_awss_words(iam, role):
    with pytest.raises(ClientError, match=r"ValidationError.*roleName") as refused:
        iam.get_role(RoleName="not a name!")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        iam.put_role_policy(RoleName=role, PolicyName="bad", PolicyDocument="{no json")
    with pytest.raises(ClientError, match="NotImplemented") as unknown:
        iam.get_human_readable_summary(EntityArn="arn:aws:iam::123456789012:role/clary")
    assert unknown.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
