"""What becomes of a call in the journal, as a table; and that a compact journal makes the same."""

import json
import re
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.neighbours.calls import Call
from clary.neighbours.cloud import Cloud
from clary.neighbours.journal import Entry, Journal
from clary.neighbours.journal_rule import Change, plan_change
from clary.neighbours.sns_messages import Signer

ACCOUNT = "123456789012"
TOPIC = f"arn:aws:sns:us-east-1:{ACCOUNT}:t"


def form(service, action, **parameters):
    return Call(
        service=service,
        region="us-east-1",
        host="localhost:1",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=urlencode({"Action": action, **parameters}).encode(),
    )


def target(service, action, **parameters):
    prefix = {"sqs": "AmazonSQS", "ecr": "AmazonEC2ContainerRegistry_V20150921"}[service]
    return Call(
        service=service,
        region="us-east-1",
        host="localhost:1",
        headers={
            "content-type": f"application/x-amz-json-1.{0 if service == 'sqs' else 1}",
            "x-amz-target": f"{prefix}.{action}",
        },
        body=json.dumps(parameters).encode(),
    )


def plan(call, **named):
    return plan_change(call, account=ACCOUNT, **named)


@pytest.mark.parametrize(
    "call",
    [
        form("iam", "GetRole", RoleName="r"),
        form("iam", "SimulatePrincipalPolicy"),
        form("sns", "Publish", TopicArn=TOPIC),
        form("sns", "PublishBatch", TopicArn=TOPIC),
        target("sqs", "SendMessage", QueueUrl="http://h/1/q"),
        target("sqs", "ReceiveMessage", QueueUrl="http://h/1/q"),
        target("sqs", "PurgeQueue", QueueUrl="http://h/1/q"),
        target("ecr", "BatchGetImage", repositoryName="x"),
        form("iam", ""),
    ],
    ids=lambda call: call.action or "none",
)
def test_calls_that_read_or_move_messages_leave_no_trace(call):
    assert plan(call) == Change(is_written=False)


@pytest.mark.parametrize(
    ("call", "subjects"),
    [
        (form("iam", "CreateRole", RoleName="r"), {"role:r"}),
        (
            form("iam", "CreatePolicy", PolicyName="p", Path="/ml/"),
            {f"policy:arn:aws:iam::{ACCOUNT}:policy/ml/p"},
        ),
        (
            form("iam", "AddRoleToInstanceProfile", RoleName="r", InstanceProfileName="i"),
            {"role:r", "profile:i"},
        ),
        (form("sns", "CreateTopic", Name="t"), {f"topic:{TOPIC}"}),
        (form("sns", "TagResource", ResourceArn=TOPIC), {f"topic:{TOPIC}"}),
        (
            form("sns", "SetSubscriptionAttributes", SubscriptionArn=f"{TOPIC}:1"),
            {f"topic:{TOPIC}", f"subscription:{TOPIC}:1"},
        ),
        (target("sqs", "CreateQueue", QueueName="q"), {"queue:us-east-1:q"}),
        (
            target("sqs", "TagQueue", QueueUrl="http://h/1/q", Tags={"a": "1"}),
            {"queue:us-east-1:q"},
        ),
        (target("ecr", "PutImage", repositoryName="x"), {"repository:us-east-1:x"}),
    ],
    ids=lambda value: value.action if isinstance(value, Call) else "",
)
def test_what_a_call_is_about(call, subjects):
    change = plan(call)
    assert (change.is_written, change.subjects) == (True, subjects)


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        (form("iam", "DeleteRole", RoleName="r"), "role:r"),
        (form("sns", "DeleteTopic", TopicArn=TOPIC), f"topic:{TOPIC}"),
        (form("sns", "Unsubscribe", SubscriptionArn=f"{TOPIC}:1"), f"subscription:{TOPIC}:1"),
        (target("sqs", "DeleteQueue", QueueUrl="http://h/1/q"), "queue:us-east-1:q"),
        (target("ecr", "DeleteRepository", repositoryName="x"), "repository:us-east-1:x"),
    ],
    ids=lambda value: value.action if isinstance(value, Call) else "",
)
def test_a_deletion_takes_out_all_about_the_thing(call, subject):
    change = plan(call)
    assert (change.is_written, change.drops_subject) == (False, subject)


def test_undoing_takes_out_what_is_undone():
    policy = {"RoleName": "r", "PolicyName": "p"}
    done = plan(form("iam", "PutRolePolicy", **policy, PolicyDocument="{}"))
    undone = plan(form("iam", "DeleteRolePolicy", **policy))
    assert (undone.is_written, undone.drops_slot) == (False, done.slot)


def test_tags_of_other_keys_are_other_slots():
    one, other = (
        plan(form("iam", "TagRole", RoleName="r", **{"Tags.member.1.Key": key})).slot
        for key in ("a", "b")
    )
    again = plan(form("iam", "TagRole", RoleName="r", **{"Tags.member.1.Key": "a"})).slot
    assert one == again != other


# The same state from a compact journal ------------------------------------------------------

TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}'
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"%s","Resource":"*"}]}'
MANAGED = [
    "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess",
    f"arn:aws:iam::{ACCOUNT}:policy/own",
]
names = st.sampled_from(["a", "b"])


def iam_calls():
    role = st.fixed_dictionaries({"RoleName": names})

    def one(action, **more):
        fields = st.fixed_dictionaries(more) if more else st.just({})
        return st.builds(lambda r, m: form("iam", action, **r, **m), role, fields)

    document = st.sampled_from([POLICY % action for action in ("s3:Get*", "s3:Put*")])
    return st.one_of(
        one("CreateRole", AssumeRolePolicyDocument=st.just(TRUST)),
        one("DeleteRole"),
        one("PutRolePolicy", PolicyName=names, PolicyDocument=document),
        one("DeleteRolePolicy", PolicyName=names),
        one("AttachRolePolicy", PolicyArn=st.sampled_from(MANAGED)),
        one("DetachRolePolicy", PolicyArn=st.sampled_from(MANAGED)),
        one(
            "TagRole",
            **{"Tags.member.1.Key": names, "Tags.member.1.Value": names},
        ),
        one("UntagRole", **{"TagKeys.member.1": names}),
        one("UpdateRoleDescription", Description=names),
        st.just(form("iam", "CreatePolicy", PolicyName="own", PolicyDocument=POLICY % "s3:*")),
        st.just(form("iam", "DeletePolicy", PolicyArn=MANAGED[1])),
    )


def sns_calls():
    topics = names.map(lambda name: f"arn:aws:sns:us-east-1:{ACCOUNT}:{name}")
    queues = names.map(lambda name: f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")
    return st.one_of(
        names.map(lambda name: form("sns", "CreateTopic", Name=name)),
        topics.map(lambda arn: form("sns", "DeleteTopic", TopicArn=arn)),
        st.builds(
            lambda arn, value: form(
                "sns",
                "SetTopicAttributes",
                TopicArn=arn,
                AttributeName="DisplayName",
                AttributeValue=value,
            ),
            topics,
            names,
        ),
        st.builds(
            lambda arn, queue: form(
                "sns", "Subscribe", TopicArn=arn, Protocol="sqs", Endpoint=queue
            ),
            topics,
            queues,
        ),
        st.just("unsubscribe the oldest"),
        names.map(lambda name: target("sqs", "CreateQueue", QueueName=name)),
        names.map(lambda name: target("sqs", "DeleteQueue", QueueUrl=f"http://h/1/{name}")),
    )


_MEMBER = re.compile(rb"<member>((?:(?!<member>).)*?)</member>", re.DOTALL)


def without_order(body):
    """What an answer says; lists that nobody promises an order of (names, tags) as sorted."""
    return sorted(_MEMBER.findall(body)), _MEMBER.sub(b"", body)


def everything(cloud):
    """All state of a cloud, as its clients read it."""
    found = {}

    def read(call):
        answer, _ = cloud.answer(Entry(call=call, at_us=1, seed="read"))
        found[call.action, call.body] = (answer.status, without_order(answer.body))
        return answer

    for name in ("a", "b"):
        for action in ("GetRole", "ListRolePolicies", "ListAttachedRolePolicies"):
            read(form("iam", action, RoleName=name))
        read(form("iam", "GetRolePolicy", RoleName=name, PolicyName="a"))
        arn = f"arn:aws:sns:us-east-1:{ACCOUNT}:{name}"
        for action in ("GetTopicAttributes", "ListSubscriptionsByTopic"):
            read(form("sns", action, TopicArn=arn))
        read(
            target(
                "sqs", "GetQueueAttributes", QueueUrl=f"http://h/1/{name}", AttributeNames=["All"]
            )
        )
    read(form("iam", "ListPolicies", Scope="Local"))
    return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    signer = Signer(tmp_path_factory.mktemp("keys"))
    return Cloud(account=ACCOUNT, region="us-east-1", signer=signer)


@settings(max_examples=40, deadline=None)
@given(calls=st.lists(st.one_of(iam_calls(), sns_calls()), min_size=5, max_size=40))
def test_the_journal_makes_the_state_that_was(cloud, tmp_path_factory, calls):
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.sqlite")
    cloud.reset()
    subscriptions = []
    for number, call in enumerate(calls):
        if isinstance(call, str):
            if not subscriptions:
                continue
            call = form("sns", "Unsubscribe", SubscriptionArn=subscriptions.pop(0))
        entry = Entry(call=call, at_us=10**15 + number * 10**6, seed=f"seed {number}")
        answer, _ = cloud.answer(entry)
        if answer.is_success:
            if answer.subject and answer.subject not in subscriptions:
                subscriptions.append(answer.subject)
            journal.write(entry, plan(call, subject=answer.subject))
    before = everything(cloud)
    cloud.reset()
    for entry in journal.read():
        answer, _ = cloud.answer(entry)
        assert answer.is_success, (entry.call.action, answer.body)
    journal.close()
    assert everything(cloud) == before
