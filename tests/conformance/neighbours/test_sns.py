"""SNS by stock boto3, with real listeners."""

import base64
import json
import urllib.request
import uuid

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from clary.neighbours.sns_messages import text_to_sign
from listener import Listener
from server import wait_for

AT_ONCE = json.dumps(
    {
        "healthyRetryPolicy": {
            "minDelayTarget": 0,
            "maxDelayTarget": 0,
            "numRetries": 3,
            "numNoDelayRetries": 3,
        }
    }
)


@pytest.fixture
def sns(server):
    return server.client("sns")


@pytest.fixture
def topic(sns):
    return sns.create_topic(Name=f"topic-{uuid.uuid4().hex[:12]}")["TopicArn"]


@pytest.fixture
def queue(server):
    """URL and ARN of a queue."""
    sqs = server.client("sqs")
    url = sqs.create_queue(QueueName=f"queue-{uuid.uuid4().hex[:12]}")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return url, attributes["QueueArn"]


def receive(server, url, wait_s=10):
    return server.client("sqs").receive_message(
        QueueUrl=url, WaitTimeSeconds=wait_s, MaxNumberOfMessages=10
    )


def subscribe(sns, topic, listener, **attributes):
    """Subscribe a listener, and confirm as one does: by visiting the link."""
    answer = sns.subscribe(
        TopicArn=topic,
        Protocol="http",
        Endpoint=listener.url,
        Attributes={"DeliveryPolicy": AT_ONCE, **attributes},
    )
    assert answer["SubscriptionArn"] == "pending confirmation"
    asked = listener.wait(1)[0]
    with urllib.request.urlopen(asked.json["SubscribeURL"], timeout=10) as reply:
        assert reply.status == 200
    listener.posted.clear()


def verify(message):
    """Check a signature as receivers do, with the certificate that the message names."""
    with urllib.request.urlopen(message["SigningCertURL"], timeout=10) as reply:
        key = x509.load_pem_x509_certificate(reply.read()).public_key()
    algorithm = hashes.SHA256() if message["SignatureVersion"] == "2" else hashes.SHA1()
    signature = base64.b64decode(message["Signature"])
    key.verify(signature, text_to_sign(message), padding.PKCS1v15(), algorithm)


def test_what_terraform_does_with_a_topic(sns):
    tags = [{"Key": "team", "Value": "ml"}]
    arn = sns.create_topic(Name="terraformed", Tags=tags)["TopicArn"]
    assert arn == "arn:aws:sns:us-east-1:123456789012:terraformed"
    for name, value in [("DisplayName", "Shown"), ("SignatureVersion", "2")]:
        sns.set_topic_attributes(TopicArn=arn, AttributeName=name, AttributeValue=value)
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert (found["DisplayName"], found["SignatureVersion"]) == ("Shown", "2")
    assert found["Owner"] == "123456789012"
    assert sns.list_tags_for_resource(ResourceArn=arn)["Tags"] == tags
    sns.delete_topic(TopicArn=arn)
    with pytest.raises(sns.exceptions.NotFoundException):
        sns.get_topic_attributes(TopicArn=arn)


def test_a_listener_is_asked_first_and_then_gets_signed_messages(sns, topic):
    with Listener() as listener:
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
        asked = listener.wait(1)[0]
        assert asked.headers["x-amz-sns-message-type"] == "SubscriptionConfirmation"
        assert asked.json["TopicArn"] == topic
        verify(asked.json)
        sns.publish(TopicArn=topic, Message="too early")
        listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
        assert [s["SubscriptionArn"] for s in listed] == ["PendingConfirmation"]
        assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsPending"] == "1"
        arn = sns.confirm_subscription(TopicArn=topic, Token=asked.json["Token"])["SubscriptionArn"]
        message_id = sns.publish(
            TopicArn=topic,
            Subject="News",
            Message="hello",
            MessageAttributes={"kind": {"DataType": "String", "StringValue": "alarm"}},
        )["MessageId"]
        got = listener.wait(2)[1]
    assert got.headers["x-amz-sns-message-type"] == "Notification"
    assert got.headers["x-amz-sns-subscription-arn"] == arn
    assert got.json["MessageId"] == message_id == got.headers["x-amz-sns-message-id"]
    assert (got.json["Subject"], got.json["Message"]) == ("News", "hello")
    assert got.json["MessageAttributes"] == {"kind": {"Type": "String", "Value": "alarm"}}
    verify(got.json)
    assert len(listener.posted) == 2


def test_a_wrong_token_confirms_nothing(sns, topic):
    with Listener() as listener:
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
        with pytest.raises(sns.exceptions.InvalidParameterException, match="Token"):
            sns.confirm_subscription(TopicArn=topic, Token="0" * 64)


def test_a_listener_that_fails_is_tried_again(sns, topic):
    with Listener() as listener:
        subscribe(sns, topic, listener)
        listener.statuses = [503, 500]
        sns.publish(TopicArn=topic, Message="at last")
        tries = listener.wait(3)
    assert {posted.json["Message"] for posted in tries} == {"at last"}
    assert len({posted.json["MessageId"] for posted in tries}) == 1


def test_a_message_that_nobody_takes_goes_to_the_dead_letter_queue(server, sns, topic, queue):
    url, arn = queue
    with Listener() as listener:
        subscribe(sns, topic, listener, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn}))
        listener.statuses = [400]
        sns.publish(TopicArn=topic, Message="refused")
        messages = receive(server, url)["Messages"]
        assert len(listener.posted) == 1, "what is the message's fault is not tried again"
    assert json.loads(messages[0]["Body"])["Message"] == "refused"


def test_the_link_in_a_message_ends_the_subscription(sns, topic):
    with Listener() as listener:
        subscribe(sns, topic, listener)
        sns.publish(TopicArn=topic, Message="last")
        url = listener.wait(1)[0].json["UnsubscribeURL"]
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert reply.status == 200
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []


def test_a_queue_gets_messages_in_an_envelope_or_raw(server, sns, topic, queue):
    url, arn = queue
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)["SubscriptionArn"]
    sns.publish(TopicArn=topic, Message="wrapped", Subject="s")
    envelope = json.loads(receive(server, url)["Messages"][0]["Body"])
    assert (envelope["Message"], envelope["Subject"]) == ("wrapped", "s")
    verify(envelope)
    sns.set_subscription_attributes(
        SubscriptionArn=subscription, AttributeName="RawMessageDelivery", AttributeValue="true"
    )
    sns.publish(TopicArn=topic, Message="raw")
    assert receive(server, url)["Messages"][0]["Body"] == "raw"


def test_filters_and_texts_for_each_protocol_hold(server, sns, topic, queue):
    url, arn = queue
    policy = json.dumps({"kind": ["alarm"]})
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"FilterPolicy": policy, "RawMessageDelivery": "true"},
    )
    kinds = {k: {"kind": {"DataType": "String", "StringValue": k}} for k in ("news", "alarm")}
    sns.publish(TopicArn=topic, Message="dropped", MessageAttributes=kinds["news"])
    sns.publish(
        TopicArn=topic,
        MessageStructure="json",
        Message=json.dumps({"default": "no", "sqs": "yes"}),
        MessageAttributes=kinds["alarm"],
    )
    assert [m["Body"] for m in receive(server, url)["Messages"]] == ["yes"]
    with pytest.raises(sns.exceptions.InvalidParameterException, match="No default entry"):
        sns.publish(
            TopicArn=topic,
            MessageStructure="json",
            Message="{}",
            MessageAttributes=kinds["alarm"],
        )


def test_batches_are_published(server, sns, topic, queue):
    url, arn = queue
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )
    entries = [{"Id": str(n), "Message": f"m{n}"} for n in range(3)]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [done["Id"] for done in answer["Successful"]] == ["0", "1", "2"]
    got = set()
    wait_for(
        lambda: (
            got.update(m["Body"] for m in receive(server, url, 0).get("Messages", []))
            or got == {"m0", "m1", "m2"}
        ),
        what="all messages",
    )


def test_bad_calls_are_refused(sns):
    with pytest.raises(sns.exceptions.NotFoundException):
        sns.publish(TopicArn="arn:aws:sns:us-east-1:123456789012:none", Message="m")
    with pytest.raises(ClientError, match="InvalidParameter"):
        sns.create_topic(Name="no spaces allowed")
