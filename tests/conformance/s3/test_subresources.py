"""Documents of buckets: what Terraform reads and sets, with a stock client."""

import json
from typing import Any

import pytest

from s3_errors import refused

MISSING = [
    ("get_bucket_policy", "NoSuchBucketPolicy"),
    ("get_bucket_policy_status", "NoSuchBucketPolicy"),
    ("get_bucket_cors", "NoSuchCORSConfiguration"),
    ("get_bucket_website", "NoSuchWebsiteConfiguration"),
    ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
    ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
    ("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError"),
    ("get_bucket_tagging", "NoSuchTagSet"),
]
EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("get_bucket_versioning", {}),
    ("get_bucket_accelerate_configuration", {}),
    ("get_bucket_logging", {}),
    ("get_bucket_notification_configuration", {}),
    ("get_bucket_request_payment", {"Payer": "BucketOwner"}),
]


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize(("operation", "code"), MISSING)
def test_what_was_never_set_has_its_own_code(
    s3: Any, bucket: str, operation: str, code: str
) -> None:
    with refused(code, 404):
        getattr(s3, operation)(Bucket=bucket)


@pytest.mark.parametrize(("operation", "expected"), EMPTY)
def test_what_was_never_set_has_its_default(
    s3: Any, bucket: str, operation: str, expected: dict[str, Any]
) -> None:
    assert _told(getattr(s3, operation)(Bucket=bucket)) == expected


def test_new_buckets_are_encrypted_private_and_without_acls(s3: Any, bucket: str) -> None:
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert all(block.values())
    controls = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert controls == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


SETTABLE: list[tuple[str, str, dict[str, Any]]] = [
    ("bucket_versioning", "VersioningConfiguration", {"Status": "Enabled"}),
    ("bucket_tagging", "Tagging", {"TagSet": [{"Key": "a", "Value": "b"}]}),
    (
        "public_access_block",
        "PublicAccessBlockConfiguration",
        {
            "BlockPublicAcls": False,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": False,
            "RestrictPublicBuckets": True,
        },
    ),
    (
        "bucket_ownership_controls",
        "OwnershipControls",
        {"Rules": [{"ObjectOwnership": "ObjectWriter"}]},
    ),
    (
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]},
    ),
    (
        "bucket_cors",
        "CORSConfiguration",
        {"CORSRules": [{"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["*"]}]},
    ),
    (
        "bucket_lifecycle_configuration",
        "LifecycleConfiguration",
        {
            "Rules": [
                {
                    "ID": "r",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "tmp/"},
                    "Expiration": {"Days": 3},
                }
            ]
        },
    ),
    ("bucket_website", "WebsiteConfiguration", {"IndexDocument": {"Suffix": "index.html"}}),
    ("bucket_accelerate_configuration", "AccelerateConfiguration", {"Status": "Enabled"}),
    ("bucket_request_payment", "RequestPaymentConfiguration", {"Payer": "Requester"}),
    (
        "bucket_notification_configuration",
        "NotificationConfiguration",
        {
            "QueueConfigurations": [
                {
                    "Id": "q",
                    "QueueArn": "arn:aws:sqs:us-east-1:123456789012:q",
                    "Events": ["s3:ObjectCreated:*"],
                }
            ]
        },
    ),
]
DELETABLE = {
    "bucket_tagging": ("delete_bucket_tagging", "NoSuchTagSet"),
    "public_access_block": ("delete_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    "bucket_ownership_controls": (
        "delete_bucket_ownership_controls",
        "OwnershipControlsNotFoundError",
    ),
    "bucket_cors": ("delete_bucket_cors", "NoSuchCORSConfiguration"),
    "bucket_lifecycle_configuration": (
        "delete_bucket_lifecycle",
        "NoSuchLifecycleConfiguration",
    ),
    "bucket_website": ("delete_bucket_website", "NoSuchWebsiteConfiguration"),
}


@pytest.mark.parametrize(("name", "member", "document"), SETTABLE, ids=[row[0] for row in SETTABLE])
def test_what_is_set_is_found_again(
    s3: Any, bucket: str, name: str, member: str, document: dict[str, Any]
) -> None:
    getattr(s3, f"put_{name}")(Bucket=bucket, **{member: document})
    answer = _told(getattr(s3, f"get_{name}")(Bucket=bucket))
    found = answer.get(member, answer)
    assert {key: found[key] for key in document} == document
    if name in DELETABLE:
        delete, code = DELETABLE[name]
        getattr(s3, delete)(Bucket=bucket)
        with refused(code, 404):
            getattr(s3, f"get_{name}")(Bucket=bucket)


@pytest.mark.parametrize("asked", [None, "all_storage_classes_128K", "varies_by_storage_class"])
def test_a_lifecycle_tells_the_least_size_of_transitions(
    s3: Any, bucket: str, asked: str | None
) -> None:
    """Terraform waits until it reads back what it has set."""
    rule = {"ID": "r", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": 3}}
    more = {"TransitionDefaultMinimumObjectSize": asked} if asked else {}
    answer = s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}, **more
    )
    expected = asked or "all_storage_classes_128K"
    assert answer["TransitionDefaultMinimumObjectSize"] == expected
    found = s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert found["TransitionDefaultMinimumObjectSize"] == expected


def test_a_policy_comes_back_to_the_letter(s3: Any, bucket: str) -> None:
    policy = json.dumps({"Version": "2012-10-17", "Statement": []}, indent=3)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": False}
    s3.delete_bucket_policy(Bucket=bucket)
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)
    with refused("MalformedPolicy", 400):
        s3.put_bucket_policy(Bucket=bucket, Policy="{}")


def test_documents_go_with_their_bucket(s3: Any, bucket: str) -> None:
    tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tags)
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
