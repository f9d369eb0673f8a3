"""SQS and ECR by stock boto3."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

MANIFEST = (
    '{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",'
    ' "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 7,'
    ' "digest": "sha256:' + "0" * 64 + '"}, "layers": []}'
)


@pytest.fixture
def sqs(server):
    return server.client("sqs")


@pytest.fixture
def queue(sqs):
    return sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex[:12]}")["QueueUrl"]


def test_a_queue_is_at_the_servers_own_address(server, sqs):
    url = sqs.create_queue(QueueName="here", Attributes={"VisibilityTimeout": "5"})["QueueUrl"]
    assert url == f"{server.url}/123456789012/here"
    assert sqs.get_queue_url(QueueName="here")["QueueUrl"] == url
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert found["VisibilityTimeout"] == "5"
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as missing:
        sqs.get_queue_url(QueueName="elsewhere")
    # What Terraform's provider looks for.
    error = missing.value.response["Error"]
    assert error["QueryErrorCode"] == "QueueDoesNotExist"
    assert error["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_messages_are_sent_received_and_deleted(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="one")
    message = sqs.receive_message(QueueUrl=queue)["Messages"][0]
    assert message["Body"] == "one"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    attributes = sqs.get_queue_attributes(
        QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "0"


def test_waiting_for_a_message_holds_nobody_up(server, sqs, queue):
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        started_at = time.monotonic()
        server.client("sns").list_topics()
        server.client("iam").get_role(RoleName="clary")
        assert not waiting.done()
        sqs.send_message(QueueUrl=queue, MessageBody="come")
        assert waiting.result()["Messages"][0]["Body"] == "come"
        assert time.monotonic() - started_at < 15


def test_the_wait_of_the_queue_itself_counts_and_ends(sqs):
    attributes = {"ReceiveMessageWaitTimeSeconds": "1"}
    url = sqs.create_queue(QueueName="patient", Attributes=attributes)["QueueUrl"]
    started_at = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    assert time.monotonic() - started_at >= 1


def test_repositories_and_images_of_ecr(server):
    ecr = server.client("ecr")
    repository = ecr.create_repository(repositoryName="models/echo")["repository"]
    assert repository["repositoryUri"].startswith("123456789012.dkr.ecr.us-east-1.")
    ecr.put_image(repositoryName="models/echo", imageManifest=MANIFEST, imageTag="v1")
    found = ecr.batch_get_image(repositoryName="models/echo", imageIds=[{"imageTag": "v1"}])
    assert found["images"][0]["imageId"]["imageTag"] == "v1"
    names = [r["repositoryName"] for r in ecr.describe_repositories()["repositories"]]
    assert names == ["models/echo"]
    assert ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=["none"])
    ecr.delete_repository(repositoryName="models/echo", force=True)
    assert ecr.describe_repositories()["repositories"] == []
