"""Events of a running server reach a file, a webhook and a topic, also when control is killed."""

import json
import os
import signal

import pytest

from handlers import ECHO
from listener import Listener
from server import Server, wait_for

TOPIC = "arn:aws:sns:us-east-1:123456789012:events"


def statuses(events, name):
    return [
        event["detail"]["EndpointStatus"]
        for event in events
        if event["detail"]["EndpointName"] == name
    ]


def once(events):
    """Events without those that came twice."""
    return list({event["id"]: event for event in events}.values())


@pytest.mark.timeout(180)
def test_all_receivers_hear_of_an_endpoints_life(tmp_path):
    with (
        Listener(500, 503) as listener,
        Server(
            tmp_path,
            CLARY_EVENTS_WEBHOOK_URLS=f"{listener.url}/hook",
            CLARY_EVENTS_SNS_TOPIC_ARNS=TOPIC,
            CLARY_EVENTS_MAX_PAUSE_S="1",
        ) as server,
    ):
        sqs, sns = server.client("sqs"), server.client("sns")
        queue = sqs.create_queue(QueueName="events")["QueueUrl"]
        sns.create_topic(Name="events")
        sns.subscribe(
            TopicArn=TOPIC,
            Protocol="sqs",
            Endpoint="arn:aws:sqs:us-east-1:123456789012:events",
            Attributes={"RawMessageDelivery": "true"},
        )
        server.deploy("first", {"code/inference.py": ECHO})
        (control,) = server.pids("clary-control")
        os.kill(control, signal.SIGKILL)
        wait_for(
            lambda: server.pids("clary-control") not in ([], [control]), what="another control"
        )
        server.delete_endpoint("first")
        life = ["CREATING", "IN_SERVICE", "DELETING"]

        def of_file():
            lines = (server.data_dir / "events.jsonl").read_text().splitlines()
            return once(map(json.loads, lines))

        def of_webhook():
            return once(posted.json for posted in listener.posted)

        received = []

        def of_topic():
            got = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
            for message in got.get("Messages", []):
                received.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return once(received)

        for read in (of_file, of_webhook, of_topic):
            wait_for(lambda read=read: len(statuses(read(), "first")) >= 3, what=f"events: {read}")
            assert statuses(read(), "first") == life
        assert of_file() == of_webhook()
        event = of_file()[1]
        described = event["detail"]["ProductionVariants"][0]
        assert event["source"] == "aws.sagemaker"
        assert event["detail-type"] == "SageMaker Endpoint State Change"
        assert described["CurrentInstanceCount"] == 1


def test_a_change_of_weights_is_told(tmp_path):
    with Server(tmp_path) as server:
        server.deploy("weighed", {"code/inference.py": ECHO})
        server.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName="weighed",
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 3}],
        )
        server.wait_for_status("weighed", "InService")

        def told():
            lines = (server.data_dir / "events.jsonl").read_text().splitlines()
            return [json.loads(line)["detail"] for line in lines]

        wait_for(lambda: len(told()) >= 4, what="four events")
    assert [detail["EndpointStatus"] for detail in told()] == [
        "CREATING",
        "IN_SERVICE",
        "UPDATING",
        "IN_SERVICE",
    ]
    assert told()[-1]["ProductionVariants"][0]["CurrentWeight"] == 3
