"""Passes calls on to another server of the same service, signed anew with this server's keys.

A redirect would not do: SDKs sign for the host that they were given, and follow none. The account,
and whose credentials the standard AWS variables and files hold, are those of the process that runs
this server.
"""

import asyncio
import logging
from typing import Any

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.httpsession import URLLib3Session

from clary.aws.fault import Fault
from clary.neighbours.calls import Answer, Call

TIMEOUT_S = 60
"""Longest silence of the other side; SQS holds a ReceiveMessage for up to 20 s."""

_log = logging.getLogger(__name__)


class Remote:
    """One service somewhere else.

    Args:
        endpoint_url: Where.
    """

    def __init__(self, endpoint_url: str) -> None:
        self._endpoint_url = endpoint_url.rstrip("/")
        self._session = botocore.session.Session()
        self._http = URLLib3Session(timeout=TIMEOUT_S, max_pool_connections=16)

    async def answer(self, call: Call) -> Answer:
        """Do a call there.

        Raises:
            Fault: There are no credentials, or nobody answers.
        """
        return await asyncio.to_thread(self._answer, call)

    def _answer(self, call: Call) -> Answer:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise Fault(
                "ServiceUnavailable",
                f"{call.service.upper()} is at {self._endpoint_url}, and this server has no AWS "
                "credentials for it. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there.",
                503,
            )
        request: Any = AWSRequest(
            method="POST",
            url=f"{self._endpoint_url}{call.path}",
            data=call.body,
            headers=dict(call.headers),
        )
        try:
            SigV4Auth(credentials, call.service, call.region).add_auth(request)
            response = self._http.send(request.prepare())
        except (BotoCoreError, HTTPClientError) as error:
            _log.warning("%s: %s", self._endpoint_url, error)
            raise Fault(
                "ServiceUnavailable",
                f"{call.service.upper()} at {self._endpoint_url} does not answer: {error}",
                503,
            ) from error
        return Answer(
            status=response.status_code,
            body=response.content,
            content_type=response.headers.get("content-type", "text/xml"),
            query_error=response.headers.get("x-amzn-query-error", ""),
        )
