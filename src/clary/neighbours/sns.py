"""SNS over moto's topics: listeners have to confirm, and messages really go out.

moto keeps topics, subscriptions and filters. Its own delivery posts while the publisher waits,
once, to whoever was named; here what is to be sent is collected (``Outbox``) and the caller sends
it when the call is durable.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from moto.core.responses import ActionResult
from moto.core.utils import camelcase_to_underscores
from moto.moto_api._internal import mock_random
from moto.sns.exceptions import InvalidParameterValue, SNSInvalidParameter, SNSNotFoundError
from moto.sns.models import Subscription, Topic
from moto.sns.responses import SNSResponse
from moto.sqs.exceptions import QueueDoesNotExist
from moto.sqs.models import sqs_backends

from clary.neighbours.delivery import Delivery
from clary.neighbours.delivery_rule import retry_policy
from clary.neighbours.sns_messages import Message, Signer, confirmation, notification

LISTENERS = ("http", "https")
NEEDS_CONFIRMATION = (*LISTENERS, "email", "email-json")
PENDING = "pending confirmation"
PENDING_IN_LISTS = "PendingConfirmation"

KEPT_ATTRIBUTES = (
    "SignatureVersion",
    "TracingConfig",
    "ArchivePolicy",
    "FifoThroughputScope",
    *(
        f"{protocol}{name}"
        for protocol in ("HTTP", "Firehose", "Lambda", "Application", "SQS")
        for name in (
            "SuccessFeedbackRoleArn",
            "SuccessFeedbackSampleRate",
            "FailureFeedbackRoleArn",
        )
    ),
)
"""Attributes of topics that moto takes and does not show."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outbox:
    """What one call wants sent, and what it made."""

    signer: Signer
    base_url: str = ""
    """Of the server, as the caller of this call reached it."""
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    deliveries: list[Delivery] = field(default_factory=list)
    subject: str = ""


def live_subscription(outbox: Outbox) -> type[Subscription]:
    """Return the class of subscriptions whose messages go to an outbox."""

    class LiveSubscription(Subscription):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.base_url = outbox.base_url
            self.token = mock_random.get_random_hex(64)
            self.confirmed = self.protocol not in NEEDS_CONFIRMATION

        def publish(
            self,
            message: str,
            message_id: str,
            subject: str | None = None,
            message_attributes: dict[str, Any] | None = None,
            group_id: str | None = None,
            deduplication_id: str | None = None,
            message_structure: str | None = None,
        ) -> None:
            matcher = self._filter_policy_matcher
            if matcher is not None and not matcher.matches(message_attributes, message):
                return
            text = text_for(self.protocol, message, message_structure)
            if not self.confirmed:
                return
            sent = Message(
                id=message_id,
                topic_arn=self.topic.arn,
                at=outbox.at,
                text=text,
                subject=subject,
                attributes=message_attributes,
            )
            if self.protocol in LISTENERS:
                outbox.deliveries.append(_to_listener(self, sent, outbox.signer))
            elif self.protocol == "sqs":
                _to_queue(self, sent, outbox.signer, group_id, deduplication_id)
            else:
                _log.info("nothing is sent by %s (%s)", self.protocol, self.topic.arn)

    return LiveSubscription


class SnsOperations(SNSResponse):
    """SNS's operations.

    Args:
        outbox: Takes what has to be sent.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def subscribe(self) -> ActionResult:
        result = super().subscribe()
        arn: str = cast(Any, result.result)["SubscriptionArn"]
        subscription = cast(Any, self.backend.subscriptions[arn])
        self._outbox.subject = arn
        if subscription.confirmed:
            return result
        subscription.attributes["PendingConfirmation"] = True
        subscription.attributes["ConfirmationWasAuthenticated"] = False
        if subscription.protocol in LISTENERS:
            self._outbox.deliveries.append(_ask(subscription, self._outbox))
        wants_arn = self._get_bool_param("ReturnSubscriptionArn", False)
        return result if wants_arn else ActionResult({"SubscriptionArn": PENDING})

    def confirm_subscription(self) -> ActionResult:
        topic_arn, token = self._get_param("TopicArn"), self._get_param("Token")
        if topic_arn not in self.backend.topics:
            raise SNSNotFoundError("Topic does not exist")
        for subscription in cast(Any, list(self.backend.subscriptions.values())):
            if subscription.topic.arn == topic_arn and subscription.token == token:
                subscription.confirmed = True
                subscription.attributes["PendingConfirmation"] = False
                self._outbox.subject = subscription.arn
                return ActionResult({"SubscriptionArn": subscription.arn})
        raise SNSInvalidParameter("Invalid parameter: Token")

    def publish(self) -> ActionResult:
        topic_arn = self._get_param("TopicArn")
        if topic_arn is not None and topic_arn not in self.backend.topics:
            raise SNSNotFoundError("Topic does not exist")  # moto speaks of an endpoint
        return super().publish()

    def list_subscriptions(self) -> ActionResult:
        return _with_pending(super().list_subscriptions())

    def list_subscriptions_by_topic(self) -> ActionResult:
        return _with_pending(super().list_subscriptions_by_topic())

    def get_topic_attributes(self) -> ActionResult:
        topic = cast(Any, self.backend.get_topic(self._get_param("TopicArn")))
        own = [s for s in self.backend.subscriptions.values() if s.topic is topic]
        topic.subscriptions_confimed = sum(subscription.confirmed for subscription in own)
        topic.subscriptions_pending = len(own) - topic.subscriptions_confimed
        result = super().get_topic_attributes()
        attributes: dict[str, Any] = cast(Any, result.result)["Attributes"]
        for name in KEPT_ATTRIBUTES:
            value = getattr(topic, camelcase_to_underscores(name), None)
            if value:
                attributes[name] = value
        return result


def text_for(protocol: str, message: str, structure: str | None) -> str:
    """Return the text of a message for subscribers of a protocol.

    Raises:
        InvalidParameterValue: It should have texts for each protocol, and has none for this one.
    """
    if structure != "json":
        return message
    try:
        texts = json.loads(message)
    except ValueError:
        raise InvalidParameterValue("Message is not valid JSON.") from None
    if not isinstance(texts, Mapping) or not isinstance(texts.get("default"), str):
        raise InvalidParameterValue("Message Structure - No default entry in JSON message body")
    return str(texts.get(protocol) or texts["default"])


def _ask(subscription: Any, outbox: Outbox) -> Delivery:
    """Return the message that asks a listener whether it wants to be subscribed."""
    message_id = str(mock_random.uuid4())
    body = confirmation(
        message_id,
        subscription.topic.arn,
        subscription.token,
        at=outbox.at,
        base_url=subscription.base_url,
        signer=outbox.signer,
        version=_signature_version(subscription.topic),
    )
    return Delivery(
        url=subscription.endpoint,
        body=json.dumps(body).encode(),
        headers=_headers("SubscriptionConfirmation", message_id, subscription.topic.arn),
        pauses_s=_pauses_s(subscription),
    )


def _to_listener(subscription: Any, message: Message, signer: Signer) -> Delivery:
    headers = _headers("Notification", message.id, message.topic_arn)
    headers["x-amz-sns-subscription-arn"] = subscription.arn
    if _is_raw(subscription):
        headers["x-amz-sns-rawdelivery"] = "true"
        body = message.text.encode()
    else:
        body = json.dumps(_envelope(subscription, message, signer)).encode()
    return Delivery(
        url=subscription.endpoint,
        body=body,
        headers=headers,
        pauses_s=_pauses_s(subscription),
        dead_letter_queue=_dead_letter_queue(subscription),
    )


def _to_queue(
    subscription: Any,
    message: Message,
    signer: Signer,
    group_id: str | None,
    deduplication_id: str | None,
) -> None:
    if _is_raw(subscription):
        body, attributes = message.text, _as_queue_attributes(message.attributes or {})
    else:
        body, attributes = json.dumps(_envelope(subscription, message, signer), indent=2), {}
    send_to_queue(
        subscription.endpoint,
        body,
        attributes=attributes,
        group_id=group_id,
        deduplication_id=deduplication_id,
    )


def send_to_queue(
    queue_arn: str,
    body: str,
    *,
    attributes: Mapping[str, Any] | None = None,
    group_id: str | None = None,
    deduplication_id: str | None = None,
) -> None:
    """Put a message into a queue of this server; one for a queue that is gone is dropped."""
    _, _, _, region, account, name = queue_arn.split(":", 5)
    try:
        sqs_backends[account][region].send_message(
            name,
            body,
            message_attributes=dict(attributes or {}),
            group_id=group_id,
            deduplication_id=deduplication_id,
            validate_group_id=False,
        )
    except QueueDoesNotExist:
        _log.warning("there is no queue %s; a message for it is dropped", queue_arn)


def _envelope(subscription: Any, message: Message, signer: Signer) -> dict[str, Any]:
    return notification(
        message,
        subscription_arn=subscription.arn,
        base_url=subscription.base_url,
        signer=signer,
        version=_signature_version(subscription.topic),
    )


def _headers(kind: str, message_id: str, topic_arn: str) -> dict[str, str]:
    return {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": kind,
        "x-amz-sns-message-id": message_id,
        "x-amz-sns-topic-arn": topic_arn,
    }


def _as_queue_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {
            "DataType": value["Type"],
            "BinaryValue" if value["Type"].startswith("Binary") else "StringValue": value["Value"],
        }
        for name, value in attributes.items()
    }


def _is_raw(subscription: Any) -> bool:
    return str(subscription.attributes.get("RawMessageDelivery")).lower() == "true"


def _signature_version(topic: Topic) -> str:
    return "2" if getattr(topic, "signature_version", "1") == "2" else "1"


def _pauses_s(subscription: Any) -> tuple[float, ...]:
    own = subscription.attributes.get("DeliveryPolicy") or ""
    return retry_policy(subscription.topic.delivery_policy, own).pauses_s()


def _dead_letter_queue(subscription: Any) -> str:
    try:
        return str(json.loads(subscription.attributes["RedrivePolicy"])["deadLetterTargetArn"])
    except (KeyError, TypeError, ValueError):
        return ""


def _with_pending(result: ActionResult) -> ActionResult:
    page = cast(Any, result.result)
    page["Subscriptions"] = [
        {
            "SubscriptionArn": subscription.arn if subscription.confirmed else PENDING_IN_LISTS,
            "Owner": subscription.owner,
            "Protocol": subscription.protocol,
            "Endpoint": subscription.endpoint,
            "TopicArn": subscription.topic.arn,
        }
        for subscription in page["Subscriptions"]
    ]
    return result
