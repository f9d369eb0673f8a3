"""Does calls of the neighbour services: here, durably, or somewhere else.

A call that makes state is done in memory, written to the journal, and only then answered. A process
that starts does the journal's calls again, when the first call comes. What cannot be written was
not done: the state is made anew from the journal with the next call.
"""

import asyncio
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from clary.aws.fault import Fault
from clary.clock import Clock
from clary.neighbours.calls import Answer, Call
from clary.neighbours.checking import Checking, not_installed
from clary.neighbours.journal import Entry, Journal
from clary.neighbours.journal_rule import plan_change
from clary.neighbours.remote import Remote

if TYPE_CHECKING:
    from clary.neighbours.cloud import Cloud
    from clary.neighbours.delivery import Deliveries
    from clary.neighbours.sns_messages import Signer

POLL_S = 0.05
"""How often a waiting ReceiveMessage looks."""

MAX_WAIT_S = 20.0
PUBLIC_ACTIONS = frozenset({"ConfirmSubscription", "Unsubscribe"})
"""What a link in a message may do: who has it was sent it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


class Services:
    """All neighbour services.

    Args:
        directory: Keeps the journal and SNS's key; made when it is first needed.
        account: Account id in ARNs.
        region: Region of calls that name none.
        endpoint_urls: By service, where those are that are somewhere else.
        clock: Wall time.
    """

    def __init__(
        self,
        directory: Path,
        *,
        account: str,
        region: str,
        endpoint_urls: Mapping[str, str],
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._account = account
        self._region = region
        self._clock = clock
        self._remotes = {name: Remote(url) for name, url in endpoint_urls.items() if url}
        self._checking = Checking()
        self._lock = asyncio.Lock()
        """Held from a call's work in memory to its entry in the journal: one order for both."""
        self._here: Here | None = None
        self._must_replay = False

    async def answer(self, call: Call, request_id: str) -> Answer:
        """Do a call."""
        try:
            remote = self._remotes.get(call.service)
            if remote is not None:
                return await remote.answer(call)
            self._checking.check(call)
            if call.service == "sqs" and call.action == "ReceiveMessage":
                return await self._receive(call)
            return await self._do(call)
        except Fault as fault:
            return self._checking.answer(call, fault, request_id)
        except ModuleNotFoundError as error:
            _log.error("%s is not installed", error.name)
            return self._checking.answer(call, not_installed(call), request_id)
        except Exception as error:  # noqa: BLE001 - the edge: the client gets an answer
            _log.exception("%s %s failed", call.service, call.action)
            bug = Fault("InternalFailure", f"{type(error).__name__}: {error}", 500)
            return self._checking.answer(call, bug, request_id)

    async def answer_public(self, path: str, query: str, host: str, request_id: str) -> Answer:
        """Follow a link of a message: confirm, unsubscribe, or the certificate."""
        fields = dict(parse_qsl(query))
        call = Call(
            service="sns",
            region=_region_of(fields) or self._region,
            host=host,
            headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
            body=urlencode({"Version": "2010-03-31", **fields}).encode(),
        )
        if call.action in PUBLIC_ACTIONS:
            return await self.answer(call, request_id)
        name = path.rpartition("/")[2]
        if name.endswith(".pem") and "sns" not in self._remotes:
            async with self._lock:
                signer = (await self._open()).signer
                if name == await asyncio.to_thread(signer.certificate_name):
                    pem = await asyncio.to_thread(signer.certificate)
                    return Answer(status=200, body=pem, content_type="application/x-pem-file")
        return self._checking.answer(call, Fault("NotFound", "There is no such page.", 404), "")

    async def close(self) -> None:
        """Stop sending, and close the journal."""
        if self._here is not None:
            await self._here.deliveries.close()
            self._here.journal.close()

    async def _do(self, call: Call) -> Answer:
        entry = Entry(
            call=call,
            at_us=(self._clock.now() - _EPOCH) // timedelta(microseconds=1),
            seed=secrets.token_hex(16),
        )
        async with self._lock:
            here = await self._open()
            answer, deliveries = here.cloud.answer(entry)
            if answer.is_success:
                change = plan_change(call, account=self._account, subject=answer.subject)
                if change.is_written or change.drops_slot or change.drops_subject:
                    await self._write(here.journal.write, entry, change)
            for delivery in deliveries:
                here.deliveries.send(delivery)
        return answer

    async def _write(self, write: Callable[..., None], *arguments: object) -> None:
        try:
            await asyncio.shield(asyncio.to_thread(write, *arguments))
        except sqlite3.Error as error:
            _log.error("the journal cannot be written: %s", error)
            self._must_replay = True
            raise Fault(
                "InternalFailure", f"The state cannot be written ({error}). Nothing was done.", 500
            ) from error

    async def _receive(self, call: Call) -> Answer:
        """Look for messages until there are some or the time is over; moto would hold us up."""
        wait_s = call.parameters.get("WaitTimeSeconds")
        if wait_s is None:
            async with self._lock:
                wait_s = (await self._open()).cloud.queue_wait_s(call)
        try:
            deadline = self._clock.monotonic() + min(float(wait_s), MAX_WAIT_S)
        except (TypeError, ValueError):
            return await self._do(call)
        once = call.with_parameter("WaitTimeSeconds", 0)
        while True:
            answer = await self._do(once)
            if b"ReceiptHandle" in answer.body or not answer.is_success:
                return answer
            if self._clock.monotonic() >= deadline:
                return answer
            await asyncio.sleep(POLL_S)

    async def _open(self) -> "Here":
        """Return the state, made from the journal when it is not there. The lock is held."""
        if self._here is None:
            self._here = await asyncio.to_thread(
                Here.open, self._directory, self._account, self._region
            )
            self._must_replay = True
        if self._must_replay:
            await asyncio.to_thread(self._here.replay)
            self._must_replay = False
        return self._here


class Here:
    """The services of this process."""

    def __init__(
        self, journal: Journal, cloud: "Cloud", signer: "Signer", deliveries: "Deliveries"
    ) -> None:
        self.journal = journal
        self.cloud = cloud
        self.signer = signer
        self.deliveries = deliveries

    @classmethod
    def open(cls, directory: Path, account: str, region: str) -> "Here":
        """Load moto, which takes about a second, and open the journal."""
        os.environ.setdefault("MOTO_ALLOW_NONEXISTENT_REGION", "true")
        # An extra, and heavy: neither the memory nor the time is spent before the first call.
        from clary.neighbours.cloud import Cloud  # noqa: PLC0415
        from clary.neighbours.delivery import Deliveries  # noqa: PLC0415
        from clary.neighbours.sns_messages import Signer  # noqa: PLC0415

        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = Signer(directory)
        cloud = Cloud(account=account, region=region, signer=signer)
        journal = Journal(directory / "journal.sqlite")
        return cls(journal, cloud, signer, Deliveries(cloud.give_up))

    def replay(self) -> None:
        """Make the state anew from the journal. Nothing is sent."""
        started_at = time.monotonic()
        self.cloud.reset()
        count = 0
        for entry in self.journal.read():
            count += 1
            try:
                answer, _ = self.cloud.answer(entry)
            except Fault as fault:
                _log.error("%s could not be repeated: %s", entry.call.action, fault)
                continue
            if not answer.is_success:
                _log.error("%s could not be repeated: %r", entry.call.action, answer.body[:500])
        _log.info("repeated %d calls in %.2f s", count, time.monotonic() - started_at)


def _region_of(fields: Mapping[str, str]) -> str:
    arn = fields.get("TopicArn") or fields.get("SubscriptionArn") or ""
    parts = arn.split(":")
    return parts[3] if len(parts) > 5 else ""
