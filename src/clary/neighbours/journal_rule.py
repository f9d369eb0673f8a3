"""Which calls make state, and which earlier calls they make superfluous.

A journal is read from its start to make the state again, so it should say no more than it must:

- a call that only reads, or moves messages, is not written;
- a call that sets a thing replaces the earlier call that set the same thing (its ``slot``);
- a call that makes what is there already, in the same words, is not written again;
- a call that deletes a thing, or undoes another, takes all calls about it out and is not written.

Ids that a call hands out depend on that call alone (``cloud``), so leaving others out moves none.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.neighbours.calls import Call

READING = ("Get", "List", "Describe", "BatchGet", "BatchCheck", "Check", "Simulate", "Generate")

MOMENTARY = frozenset(
    {
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
        "DeleteMessage",
        "DeleteMessageBatch",
        "Publish",
        "PublishBatch",
        "PurgeQueue",
        "ReceiveMessage",
        "SendMessage",
        "SendMessageBatch",
    }
)
"""Calls about messages: nothing of them outlives the process."""

MENTIONS = {
    "RoleName": "role",
    "UserName": "user",
    "GroupName": "group",
    "PolicyArn": "policy",
    "InstanceProfileName": "profile",
    "SubscriptionArn": "subscription",
    "repositoryName": "repository",
}
"""Parameters that name a thing, and its kind."""

DELETIONS = {
    "DeleteRole": "role",
    "DeleteUser": "user",
    "DeleteGroup": "group",
    "DeletePolicy": "policy",
    "DeleteInstanceProfile": "profile",
    "DeleteTopic": "topic",
    "Unsubscribe": "subscription",
    "DeleteQueue": "queue",
    "DeleteRepository": "repository",
}

SETTERS: Mapping[str, tuple[str, ...]] = {
    "PutRolePolicy": ("RoleName", "PolicyName"),
    "PutUserPolicy": ("UserName", "PolicyName"),
    "PutGroupPolicy": ("GroupName", "PolicyName"),
    "AttachRolePolicy": ("RoleName", "PolicyArn"),
    "AttachUserPolicy": ("UserName", "PolicyArn"),
    "AttachGroupPolicy": ("GroupName", "PolicyArn"),
    "UpdateAssumeRolePolicy": ("RoleName",),
    "UpdateRoleDescription": ("RoleName",),
    "SetTopicAttributes": ("TopicArn", "AttributeName"),
    "SetSubscriptionAttributes": ("SubscriptionArn", "AttributeName"),
    "PutLifecyclePolicy": ("repositoryName",),
    "SetRepositoryPolicy": ("repositoryName",),
    "PutImageTagMutability": ("repositoryName",),
    "PutImageScanningConfiguration": ("repositoryName",),
}
"""Calls of which the last one counts, and the parameters that say what they set."""

UNDOERS = {
    "DeleteRolePolicy": "PutRolePolicy",
    "DeleteUserPolicy": "PutUserPolicy",
    "DeleteGroupPolicy": "PutGroupPolicy",
    "DetachRolePolicy": "AttachRolePolicy",
    "DetachUserPolicy": "AttachUserPolicy",
    "DetachGroupPolicy": "AttachGroupPolicy",
}

MAKERS = frozenset({"CreateTopic", "CreateQueue", "Subscribe", "ConfirmSubscription"})
"""Calls that clients repeat to learn the name of what they made long ago."""

_TAG_KEY = re.compile(r"Tag(Keys)?\.(member\.)?\d+(\.Key)?|Tags\.member\.\d+\.Key|TagKeys\..*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a call does to the journal."""

    is_written: bool
    subjects: frozenset[str] = frozenset()
    """Things that the call is about."""
    slot: str = ""
    """What the call sets, or makes; empty when each call of its kind counts."""
    keeps_first: bool = False
    """Whether a call with the same slot that is there already makes this one superfluous."""
    drops_slot: str = ""
    drops_subject: str = ""


NOTHING = Change(is_written=False)


def plan_change(call: Call, *, account: str, subject: str = "") -> Change:
    """Decide what becomes of a call that has succeeded.

    Args:
        call: The call.
        account: Account id in ARNs.
        subject: What it has made, where the call does not say.
    """
    action = call.action
    if not action or action in MOMENTARY or action.startswith(READING):
        return NOTHING
    named = _named(call, account)
    if subject:
        named["subscription"] = subject
    if action in DELETIONS:
        kind = DELETIONS[action]
        return Change(is_written=False, drops_subject=f"{kind}:{named.get(kind, '')}")
    if action in UNDOERS:
        undone = UNDOERS[action]
        return Change(is_written=False, drops_slot=_slot(undone, call, SETTERS[undone]))
    subjects = frozenset(f"{kind}:{name}" for kind, name in named.items())
    if action in SETTERS:
        return Change(
            is_written=True,
            subjects=subjects,
            slot=_slot(action, call, SETTERS[action]),
            keeps_first=action.startswith("Attach"),
        )
    if action in MAKERS:
        slot = f"{action} {subject} {hashlib.sha256(call.body).hexdigest()}"
        slot = f"{call.service} {call.region} {slot}"
        return Change(is_written=True, subjects=subjects, slot=slot, keeps_first=True)
    keys = _set_keys(action, call.parameters)
    if keys is not None:
        about = " ".join(sorted(subjects)) or call.text("ResourceArn") or call.text("resourceArn")
        slot = f"{action} {call.region} {about} {keys}"
        return Change(is_written=True, subjects=subjects, slot=slot)
    return Change(is_written=True, subjects=subjects)


def _named(call: Call, account: str) -> dict[str, str]:
    """Return the things that a call names, by kind."""
    named = {kind: call.text(name) for name, kind in MENTIONS.items() if call.text(name)}
    arn = call.text("TopicArn") or call.text("ResourceArn")
    if call.service == "sns":
        arn = arn or call.text("SubscriptionArn").rpartition(":")[0]
        if call.action == "CreateTopic":
            arn = f"arn:aws:sns:{call.region}:{account}:{call.text('Name')}"
        if arn:
            named["topic"] = arn
    if call.service == "sqs":
        queue = call.text("QueueName") or call.text("QueueUrl").rpartition("/")[2]
        if queue:
            named["queue"] = f"{call.region}:{queue}"
    if call.service == "iam" and call.action == "CreatePolicy":
        path = call.text("Path") or "/"
        named["policy"] = f"arn:aws:iam::{account}:policy{path}{call.text('PolicyName')}"
    if "repository" in named:
        named["repository"] = f"{call.region}:{named['repository']}"
    return named


def _slot(action: str, call: Call, names: tuple[str, ...]) -> str:
    return " ".join((action, call.region, *(call.text(name) for name in names)))


def _set_keys(action: str, parameters: Mapping[str, Any]) -> str | None:
    """Return the names that a tagging call, or one that sets attributes, sets; else None."""
    if not (action.startswith(("Tag", "Untag")) or action == "SetQueueAttributes"):
        return None
    keys: set[str] = set()
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            keys.update(value)
        elif isinstance(value, list):
            keys.update(str(v.get("Key", "")) if isinstance(v, Mapping) else str(v) for v in value)
        elif _TAG_KEY.fullmatch(name):
            keys.add(str(value))
    return ",".join(sorted(keys)) or None
