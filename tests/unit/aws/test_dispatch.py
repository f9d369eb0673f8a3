"""Requests find their operations."""

import pytest

from aws_values import MODELS
from clary.aws.dispatch import find_operation, find_protocol
from clary.aws.fault import Fault
from clary.aws.http import HttpRequest

S3 = [
    ("GET", "/", "", "ListBuckets"),
    ("GET", "/", "x-id=ListDirectoryBuckets", "ListDirectoryBuckets"),
    ("PUT", "/b", "", "CreateBucket"),
    ("HEAD", "/b/", "", "HeadBucket"),
    ("GET", "/b", "", "ListObjects"),
    ("GET", "/b/", "prefix=a", "ListObjects"),
    ("GET", "/b", "list-type=2&prefix=a", "ListObjectsV2"),
    ("GET", "/b", "list-type=1", "ListObjects"),
    ("GET", "/b", "uploads", "ListMultipartUploads"),
    ("GET", "/b", "uploads=", "ListMultipartUploads"),
    ("GET", "/b", "versioning", "GetBucketVersioning"),
    ("GET", "/b", "lifecycle", "GetBucketLifecycleConfiguration"),
    ("GET", "/b", "notification", "GetBucketNotificationConfiguration"),
    ("GET", "/b", "inventory", "ListBucketInventoryConfigurations"),
    ("GET", "/b", "inventory&id=1", "GetBucketInventoryConfiguration"),
    ("POST", "/b", "delete", "DeleteObjects"),
    ("GET", "/b/k", "", "GetObject"),
    ("GET", "/b/k", "x-id=GetObject&partNumber=1", "GetObject"),
    ("GET", "/b/k/", "", "GetObject"),
    ("GET", "/b//k", "", "GetObject"),
    ("GET", "/b/k", "uploadId=1", "ListParts"),
    ("PUT", "/b/k", "", "PutObject"),
    ("PUT", "/b/k", "tagging", "PutObjectTagging"),
    ("PUT", "/b/k", "partNumber=1&uploadId=2", "UploadPart"),
    ("POST", "/b/k", "uploads", "CreateMultipartUpload"),
    ("POST", "/b/k", "uploadId=2", "CompleteMultipartUpload"),
    ("DELETE", "/b/k", "", "DeleteObject"),
    ("DELETE", "/b/k", "uploadId=2", "AbortMultipartUpload"),
]


@pytest.mark.parametrize(("method", "path", "query", "name"), S3)
def test_s3_operations_are_found_by_method_path_and_query(
    method: str, path: str, query: str, name: str
) -> None:
    found = find_operation(MODELS.get("s3"), HttpRequest(method, path, query))
    assert found.operation.name == name


def test_a_copy_is_told_from_a_put_by_its_header() -> None:
    headers = {"x-amz-copy-source": "b/k"}
    for query, name in (("", "CopyObject"), ("partNumber=1&uploadId=2", "UploadPartCopy")):
        found = find_operation(MODELS.get("s3"), HttpRequest("PUT", "/b/k", query, headers))
        assert found.operation.name == name


def test_keys_keep_their_slashes_and_are_decoded_once() -> None:
    found = find_operation(MODELS.get("s3"), HttpRequest("GET", "/b//../a%2Fb%2520/%C3%BC/"))
    assert found.uri == {"Bucket": "b", "Key": "/../a/b%20/\u00fc/"}


def test_an_invocation_is_found_by_its_path() -> None:
    request = HttpRequest("POST", "/endpoints/a%2Fb/invocations")
    found = find_operation(MODELS.get("sagemaker-runtime"), request)
    assert (found.operation.name, found.uri) == ("InvokeEndpoint", {"EndpointName": "a/b"})


UNKNOWN = "UnknownOperationException"
TARGET = "x-amz-target"


@pytest.mark.parametrize(
    ("service", "request_", "code"),
    [
        ("sagemaker", HttpRequest("POST", "/"), UNKNOWN),
        ("sagemaker", HttpRequest("POST", "/", "", {TARGET: "SageMaker.Nonsense"}), UNKNOWN),
        ("sagemaker", HttpRequest("POST", "/", "", {TARGET: "Other.CreateModel"}), UNKNOWN),
        ("sagemaker-runtime", HttpRequest("POST", "/nowhere"), UNKNOWN),
        ("sagemaker-runtime", HttpRequest("GET", "/endpoints/a/invocations"), UNKNOWN),
        ("sts", HttpRequest("POST", "/"), "MissingAction"),
        ("sts", HttpRequest("GET", "/", "Action=Nonsense"), "InvalidAction"),
        ("s3", HttpRequest("PATCH", "/b"), "MethodNotAllowed"),
        ("s3", HttpRequest("GET", "/b/%ff"), "InvalidURI"),
    ],
)
def test_what_no_model_knows_is_a_fault(service: str, request_: HttpRequest, code: str) -> None:
    with pytest.raises(Fault) as caught:
        find_operation(MODELS.get(service), request_)
    assert caught.value.code == code


def test_an_action_may_stand_in_the_url() -> None:
    found = find_operation(MODELS.get("sts"), HttpRequest("GET", "/", "Action=GetCallerIdentity"))
    assert found.operation.name == "GetCallerIdentity"


def test_cloudwatch_speaks_what_its_client_speaks() -> None:
    model = MODELS.get("cloudwatch")
    path = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
    requests = {
        "smithy-rpc-v2-cbor": HttpRequest("POST", path, "", {"smithy-protocol": "rpc-v2-cbor"}),
        "json": HttpRequest(
            "POST", "/", "", {"x-amz-target": "GraniteServiceVersion20100801.PutMetricData"}
        ),
        "query": HttpRequest("POST", "/", "", {}, b"Action=PutMetricData"),
    }
    for protocol, request in requests.items():
        assert find_protocol(model, request) == protocol
        assert find_operation(model, request).operation.name == "PutMetricData"
