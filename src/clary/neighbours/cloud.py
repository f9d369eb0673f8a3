"""The services' state in memory: moto, called one request at a time.

moto takes all its ids from one source of random numbers and all its times from one function. Both
are set here for each call, by its journal entry, so that the same entries make the same state:
ids, tokens and times of creation are those that clients were told.

There is one in a process, for moto's state is the process's.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import moto.core.utils
import moto.ecr.models
import moto.iam.models
import moto.sns.models
import moto.sqs.models
from botocore.model import OperationNotFoundError
from moto.core.request import Request
from moto.ecr.models import ecr_backends
from moto.ecr.responses import ECRResponse
from moto.iam.models import iam_backends
from moto.moto_api._internal import mock_random
from moto.sns.models import sns_backends
from moto.sqs.models import sqs_backends
from moto.sqs.responses import SQSResponse
from moto.utilities.utils import get_partition

from clary.aws.fault import Fault
from clary.neighbours.calls import Answer, Call
from clary.neighbours.checking import not_implemented
from clary.neighbours.delivery import Delivery
from clary.neighbours.iam import IamOperations, ManagedPolicies, add_execution_role
from clary.neighbours.journal import Entry
from clary.neighbours.sns import Outbox, SnsOperations, live_subscription, send_to_queue
from clary.neighbours.sns_messages import Signer

_BACKENDS: Mapping[str, Any] = {
    "iam": iam_backends,
    "sns": sns_backends,
    "sqs": sqs_backends,
    "ecr": ecr_backends,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKED = (
    moto.core.utils,
    moto.ecr.models,
    moto.iam.models,
    moto.sns.models,
    moto.sqs.models,
)
"""Modules that took ``utcnow`` by name."""

_log = logging.getLogger(__name__)


class Cloud:
    """All four services.

    Args:
        account: Account id in ARNs.
        region: Where the state that is there from the start lies.
        signer: Signs messages of SNS.
    """

    def __init__(self, *, account: str, region: str, signer: Signer) -> None:
        self._account = account
        self._region = region
        self._outbox = Outbox(signer)
        self._policies = ManagedPolicies()
        for module in _CLOCKED:
            _replace(module, "utcnow", lambda: self._outbox.at.replace(tzinfo=None))
        _replace(moto.sns.models, "Subscription", live_subscription(self._outbox))
        self.reset()

    def reset(self) -> None:
        """Forget everything but what is there from the start."""
        for backends in _BACKENDS.values():
            for backend in backends.values():
                backend.reset()
            backends.clear()
        self._set(at_us=0, seed="start")
        add_execution_role(self._backend("iam", self._region))

    def answer(self, entry: Entry) -> tuple[Answer, list[Delivery]]:
        """Do a call; return its answer, and what it wants sent.

        Raises:
            Fault: moto cannot do it.
        """
        call = entry.call
        # Made before the ids of the call are drawn: whether it was there already must not matter.
        self._set(at_us=0, seed=f"{call.service} {call.region}")
        backend = self._backend(call.service, call.region)
        if call.service == "iam":
            self._policies.prepare(backend, call)
        self._set(at_us=entry.at_us, seed=entry.seed)
        self._outbox.base_url = f"http://{call.host}"
        answer = self._dispatch(call)
        deliveries, self._outbox.deliveries = self._outbox.deliveries, []
        if call.service == "sns" and call.action.startswith("Publish"):
            for topic in backend.topics.values():
                topic.sent_notifications.clear()  # kept by moto for tests, for ever
        return answer, deliveries

    def queue_wait_s(self, call: Call) -> float:
        """Return how long a ReceiveMessage waits for messages where it does not say."""
        queues = self._backend("sqs", call.region).queues
        queue = queues.get(call.text("QueueUrl").rpartition("/")[2])
        return 0.0 if queue is None else float(queue.receive_message_wait_time_seconds or 0)

    def give_up(self, delivery: Delivery) -> None:
        """Put a message that nobody took into its queue for such."""
        if delivery.dead_letter_queue:
            send_to_queue(delivery.dead_letter_queue, delivery.body.decode("utf-8", "replace"))

    def _dispatch(self, call: Call) -> Answer:
        operations = self._operations(call.service)
        request = Request.from_primitives(
            "POST",
            f"http://{call.host}{call.path}",
            {
                **call.headers,
                "host": call.host,
                "authorization": (
                    f"AWS4-HMAC-SHA256 Credential=clary/20260101/{call.region}/{call.service}"
                    "/aws4_request, SignedHeaders=host, Signature=0"
                ),
                "x-moto-account-id": self._account,
            },
            call.body,
        )
        try:
            status, headers, body = operations._dispatch(request, request.raw_url, request.headers)
        except (NotImplementedError, OperationNotFoundError):
            raise not_implemented(call) from None
        except Exception as error:
            _log.exception("%s %s failed", call.service, call.action)
            raise Fault("InternalFailure", f"{type(error).__name__}: {error}", 500) from error
        subject, self._outbox.subject = self._outbox.subject, ""
        lower = {name.lower(): str(value) for name, value in headers.items()}
        return Answer(
            status=int(status),
            body=body.encode() if isinstance(body, str) else bytes(body),
            content_type=lower.get("content-type", "text/xml"),
            query_error=lower.get("x-amzn-query-error", ""),
            subject=subject,
        )

    def _operations(self, service: str) -> Any:
        if service == "iam":
            return IamOperations()
        if service == "sns":
            return SnsOperations(self._outbox)
        return SQSResponse() if service == "sqs" else ECRResponse()

    def _backend(self, service: str, region: str) -> Any:
        # IAM is one for all regions of a partition.
        place = get_partition(region) if service == "iam" else region
        return _BACKENDS[service][self._account][place]

    def _set(self, *, at_us: int, seed: str) -> None:
        self._outbox.at = _EPOCH + timedelta(microseconds=at_us)
        mock_random.seed(seed)


def _replace(module: ModuleType, name: str, value: Any) -> None:
    vars(module)[name] = value
