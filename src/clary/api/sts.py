"""STS: who the caller is, and credentials that work here.

SDKs only ask it to learn the account and the role: ``get_execution_role()`` wants an assumed-role
ARN. There are no roles to change into: the credentials that are handed out act as the caller.
"""

import secrets
from datetime import timedelta
from typing import Any

from clary.api.operations import Call, Reply, Request, operation
from clary.errors import InvalidRequest
from clary.resources.names import partition_of

ROLE = "clary"
"""Name of the role that every caller is seen to have assumed."""

ANONYMOUS = "local"
"""Session name of a caller without a known key, in open mode."""

_ASSUMED_LIFETIME_S = 3600
_SESSION_LIFETIME_S = 43200


@operation("sts", "GetCallerIdentity")
async def get_caller_identity(call: Call, _request: Request) -> Reply:
    key = call.backend.find_key(call.access_key_id)
    session = ANONYMOUS if key is None else key.principal
    return {
        "UserId": f"{_role_id(call.namespace.account)}:{session}",
        "Account": call.namespace.account,
        "Arn": _assumed_role_arn(call, call.namespace.account, ROLE, session),
    }


@operation("sts", "AssumeRole")
async def assume_role(call: Call, request: Request) -> Reply:
    parts = request["RoleArn"].split(":", 5)
    if len(parts) != 6 or not parts[5].startswith("role/"):
        raise InvalidRequest(f"{request['RoleArn']} is invalid: it is no ARN of a role.")
    account, session = parts[4], request["RoleSessionName"]
    role = parts[5].rpartition("/")[2]
    return {
        "Credentials": _credentials(call, request.get("DurationSeconds", _ASSUMED_LIFETIME_S)),
        "AssumedRoleUser": {
            "AssumedRoleId": f"{_role_id(account)}:{session}",
            "Arn": _assumed_role_arn(call, account, role, session),
        },
    }


@operation("sts", "GetSessionToken")
async def get_session_token(call: Call, request: Request) -> Reply:
    lifetime_s = request.get("DurationSeconds", _SESSION_LIFETIME_S)
    return {"Credentials": _credentials(call, lifetime_s)}


def _credentials(call: Call, lifetime_s: int) -> dict[str, Any]:
    """Return the caller's own key pair: the only one that verifies. In open mode, any does."""
    key = call.backend.find_key(call.access_key_id)
    return {
        "AccessKeyId": call.access_key_id or "ASIACLARYLOCAL000000",
        "SecretAccessKey": "clary" if key is None else key.secret,
        "SessionToken": secrets.token_urlsafe(48),
        "Expiration": call.backend.clock.now() + timedelta(seconds=lifetime_s),
    }


def _assumed_role_arn(call: Call, account: str, role: str, session: str) -> str:
    return f"arn:{partition_of(call.namespace.region)}:sts::{account}:assumed-role/{role}/{session}"


def _role_id(account: str) -> str:
    return f"AROA{account:0>16}"
