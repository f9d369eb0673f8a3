"""The neighbour services as a process: started late, durable, replaceable, behind the signature."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from listener import Listener
from server import Server, wait_for

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
)
FULL_ACCESS = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as server:
        yield server


def process(server):
    return server.pids("clary-jobs", "neighbours")


def restart(server, how):
    if how == "stop":
        server.stop()
        server.start()
    elif how == "kill everything":
        server.kill()
        server.start()
    else:
        (pid,) = process(server)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: process(server) not in ([], [pid]), what="another process")


def facts(answer):
    """An answer without what differs from call to call."""
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_nothing_is_started_before_the_first_call(server):
    server.sts.get_caller_identity()
    server.sagemaker.list_models()
    assert process(server) == []
    server.client("iam").list_roles()
    assert len(process(server)) == 1


@pytest.mark.parametrize("how", ["stop", "kill everything", "kill the process"])
def test_state_ids_and_times_are_those_of_before_a_restart(server, how):
    iam, sns, sqs, ecr = map(server.client, ("iam", "sns", "sqs", "ecr"))
    iam.get_role(RoleName="clary")
    iam.create_role(RoleName="role", AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName="role", PolicyName="p", PolicyDocument=POLICY)
    iam.attach_role_policy(RoleName="role", PolicyArn=FULL_ACCESS)
    iam.create_role(RoleName="gone", AssumeRolePolicyDocument=TRUST)
    iam.delete_role(RoleName="gone")
    own = iam.create_policy(PolicyName="own", PolicyDocument=POLICY)["Policy"]["Arn"]
    topic = sns.create_topic(Name="topic")["TopicArn"]
    sns.set_topic_attributes(TopicArn=topic, AttributeName="DisplayName", AttributeValue="T")
    queue = sqs.create_queue(QueueName="queue", Attributes={"DelaySeconds": "3"})["QueueUrl"]
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:queue"
    )
    ecr.create_repository(repositoryName="models")

    def everything():
        found = (
            iam.get_role(RoleName="role"),
            iam.get_role(RoleName="clary"),
            iam.get_role_policy(RoleName="role", PolicyName="p"),
            iam.list_attached_role_policies(RoleName="role"),
            iam.get_policy(PolicyArn=own),
            iam.list_roles(),
            sns.get_topic_attributes(TopicArn=topic),
            sns.list_subscriptions(),
            sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"]),
            ecr.describe_repositories(),
        )
        return [facts(answer) for answer in found]

    before = everything()
    restart(server, how)
    assert everything() == before
    log = (server.data_dir / "logs" / "server" / "neighbours.log").read_text()
    assert "repeated 9 calls in " in log, "the role that is gone leaves no calls"


POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
    }
)


def test_what_was_answered_survives_a_kill_at_any_moment(server):
    """Roles are made as fast as they can be while the process is killed again and again."""
    iam = server.client("iam", retries={"total_max_attempts": 10, "mode": "standard"})
    answered = []
    iam.list_roles()
    stop = threading.Event()

    def create():
        number = 0
        while not stop.is_set():
            number += 1
            name = f"role-{number:04}"
            try:
                made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]
            except iam.exceptions.EntityAlreadyExistsException:
                continue  # done, and its answer was lost
            except ClientError:
                continue
            answered.append((name, made["RoleId"]))

    thread = threading.Thread(target=create)
    thread.start()
    try:
        for _ in range(3):
            goal = len(answered) + 20
            wait_for(lambda goal=goal: len(answered) >= goal, what="more roles")
            (pid,) = process(server)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: process(server) not in ([], [pid]), what="another process")
    finally:
        stop.set()
        thread.join()
    pages = iam.get_paginator("list_roles").paginate()
    found = {role["RoleName"]: role["RoleId"] for page in pages for role in page["Roles"]}
    assert len(answered) >= 60
    assert {name: found.get(name) for name, _ in answered} == dict(answered)


def test_a_confirmed_listener_is_one_after_a_restart_and_is_sent_nothing_twice(server):
    sns = server.client("sns")
    topic = sns.create_topic(Name="topic")["TopicArn"]
    with Listener() as listener:
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
        token = listener.wait(1)[0].json["Token"]
        sns.confirm_subscription(TopicArn=topic, Token=token)
        sns.publish(TopicArn=topic, Message="before")
        listener.wait(2)
        restart(server, "kill everything")
        sns.publish(TopicArn=topic, Message="after")
        got = listener.wait(3)
    assert [posted.json["Message"] for posted in got[1:]] == ["before", "after"]


def test_with_authentication_only_links_in_messages_need_no_signature(tmp_path):
    server = Server(tmp_path, CLARY_AUTH="on")
    printed = server.cli("keys", "create", "--data-dir", str(server.data_dir)).stdout
    server.access_key, server.secret_key = (line.split("=", 1)[1] for line in printed.split())
    with server, Listener() as listener:
        sns = server.client("sns")
        topic = sns.create_topic(Name="topic")["TopicArn"]
        sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=listener.url)
        link = listener.wait(1)[0].json["SubscribeURL"]
        with urllib.request.urlopen(link, timeout=10) as reply:
            assert reply.status == 200
        sns.publish(TopicArn=topic, Message="m")
        assert listener.wait(2)[1].json["Message"] == "m"
        delete = link.replace("ConfirmSubscription", "DeleteTopic")
        for url, method in [(delete, "GET"), (link, "POST"), (f"{server.url}/", "POST")]:
            request = urllib.request.Request(url, method=method, data=b"Action=ListTopics")
            request.data = b"Action=ListTopics" if method == "POST" else None
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=10)
            with refused.value as reply:
                assert reply.code in (403, 404)
        stranger = Server(tmp_path / "none", access_key="AKIASTRANGER", secret_key="wrong")
        stranger.url = server.url
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            stranger.client("iam").list_roles()
        assert [t["TopicArn"] for t in sns.list_topics()["Topics"]] == [topic]


def test_a_service_can_be_another_server(tmp_path):
    """The calls go there, signed with the credentials of this server's own environment."""
    far = Server(tmp_path / "far", CLARY_AUTH="on")
    far.directory.mkdir()
    printed = far.cli("keys", "create", "--data-dir", str(far.data_dir)).stdout
    far.access_key, far.secret_key = (line.split("=", 1)[1] for line in printed.split())
    with far:
        near = Server(
            tmp_path / "near",
            CLARY_NEIGHBOURS_SNS_ENDPOINT_URL=far.url,
            CLARY_NEIGHBOURS_SQS_ENDPOINT_URL="http://127.0.0.1:9",
            AWS_ACCESS_KEY_ID=far.access_key,
            AWS_SECRET_ACCESS_KEY=far.secret_key,
        )
        with near:
            topic = near.client("sns").create_topic(Name="there")["TopicArn"]
            assert [t["TopicArn"] for t in far.client("sns").list_topics()["Topics"]] == [topic]
            near.client("iam").create_role(RoleName="here", AssumeRolePolicyDocument=TRUST)
            with pytest.raises(ClientError, match="NoSuchEntity"):
                far.client("iam").get_role(RoleName="here")
            with pytest.raises(ClientError, match=r"ServiceUnavailable.*does not answer"):
                near.client("sqs").list_queues()
            with pytest.raises(ClientError, match="NotFound"):
                near.client("sns").get_topic_attributes(TopicArn=f"{topic}-not")


def test_without_moto_the_answer_says_what_to_install(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    hidden = "import sys; sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod("
    hidden += "lambda name, *_: (_ for _ in ()).throw(ModuleNotFoundError(name))"
    hidden += " if name.split('.')[0] == 'moto' else None)}))"
    (blocked / "sitecustomize.py").write_text(hidden)
    with Server(tmp_path, PYTHONPATH=str(blocked)) as server:
        for service, operation in [("iam", "list_roles"), ("sqs", "list_queues")]:
            with pytest.raises(ClientError, match=r"NotImplemented.*clary\[aws\]") as refused:
                getattr(server.client(service), operation)()
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
