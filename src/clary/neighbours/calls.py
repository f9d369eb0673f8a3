"""A call of a neighbour service and its answer, as values.

Of a request only that is kept which says what is asked: no signature and no credentials, which the
gateway has seen already. What is kept can be done again by the journal.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlencode

SERVICES = ("iam", "sns", "sqs", "ecr")
"""As signatures name them."""

KEPT_HEADERS = ("content-type", "x-amz-target")

MANAGED_POLICY = re.compile(r"arn:(aws[a-z-]*):iam::aws:policy(/(?:.*/)?)([\w+=,.@-]+)")
"""ARN of a policy of AWS's own: partition, path, name."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to a service."""

    service: str
    region: str
    host: str
    """Authority that the client reached the server by; links in messages begin with it."""
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of ``KEPT_HEADERS`` that were sent."""
    body: bytes = b""

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Its parameters, not validated: a JSON object, or a flat form."""
        if "x-amz-target" not in self.headers:
            return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def action(self) -> str:
        """Name of the operation; empty when none is named."""
        target = self.headers.get("x-amz-target", "")
        return target.rpartition(".")[2] or str(self.parameters.get("Action", ""))

    def text(self, name: str) -> str:
        """Return a parameter; empty when it is not there, or no text."""
        value = self.parameters.get(name, "")
        return value if isinstance(value, str) else ""

    def with_parameter(self, name: str, value: str | int) -> "Call":
        """Return the same call with another value of a parameter."""
        if "x-amz-target" in self.headers:
            return replace(self, body=json.dumps({**self.parameters, name: value}).encode())
        return replace(self, body=urlencode({**self.parameters, name: value}).encode())

    def to_json(self) -> str:
        """Return everything but the body as JSON."""
        facts = asdict(self)
        del facts["body"]
        return json.dumps(facts)

    @classmethod
    def from_json(cls, text: str, body: bytes) -> "Call":
        """Return the call that ``to_json`` wrote."""
        return cls(**json.loads(text), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service replies."""

    status: int
    body: bytes = b""
    content_type: str = "text/xml"
    query_error: str = ""
    """Header ``x-amzn-query-error``: the code of old, which Terraform looks for in SQS."""
    subject: str = ""
    """What the call has made, where its parameters do not say: the ARN of a subscription."""

    @property
    def is_success(self) -> bool:
        """Whether the call was done."""
        return 200 <= self.status < 300
