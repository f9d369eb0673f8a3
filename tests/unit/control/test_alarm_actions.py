"""What actions of alarms say, whatever is known of the alarm by then."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

from builders import A_TIME, NAMESPACE, an_alarm
from clary.control.alarm_actions import AlarmAction, TopicTarget
from clary.resources.alarm import AlarmValue


class Topic:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, str]] = []

    async def publish(self, topic_arn: str, subject: str, message: str) -> None:
        self.published.append((topic_arn, subject, message))


def test_a_message_tells_of_its_transition_though_the_alarm_is_known_as_it_was_before() -> None:
    before = an_alarm()
    new = replace(
        before.state,
        value=AlarmValue.ALARM,
        reason="Threshold Crossed",
        transitioned_at=A_TIME + timedelta(seconds=9),
    )
    action = AlarmAction(
        arn="arn:aws:sns:us-east-1:123456789012:oncall",
        alarm=before,
        old=before.state,
        new=new,
        value=51.0,
    )
    topic = Topic()
    asyncio.run(TopicTarget(topic, NAMESPACE)(action))
    ((_, subject, text),) = topic.published
    message = json.loads(text)
    assert subject.startswith('ALARM: "too-slow"')
    assert (message["OldStateValue"], message["NewStateValue"]) == ("INSUFFICIENT_DATA", "ALARM")
    assert message["NewStateReason"] == "Threshold Crossed"
