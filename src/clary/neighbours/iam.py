"""What IAM has here beyond moto: every policy of AWS can be attached, and everything is allowed.

And a policy that is attached cannot be deleted, as on AWS.
"""

import json
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.exceptions import DeleteConflictException
from moto.iam.models import AWSManagedPolicy, Group, IAMBackend, Role, User
from moto.iam.responses import IamResponse

from clary.neighbours.calls import MANAGED_POLICY, Call

EXECUTION_ROLE = "clary"
"""The role that STS says each caller has assumed: ``get_execution_role()`` looks it up."""

_SINCE = datetime(2015, 2, 6, 18, 40, tzinfo=UTC).isoformat()
_ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class IamOperations(IamResponse):
    """IAM's operations."""

    def attach_role_policy(self) -> ActionResult:
        role = self.backend.get_role(self._get_param("RoleName"))
        if self._get_param("PolicyArn") in role.managed_policies:
            return EmptyResult()  # moto counts it twice
        return super().attach_role_policy()

    def delete_policy(self) -> ActionResult:
        arn = self._get_param("PolicyArn")
        backend = self.backend
        entities: tuple[Role | User | Group, ...] = (
            *backend.roles.values(),
            *backend.users.values(),
            *backend.groups.values(),
        )
        # moto deletes it, and leaves the attachments behind.
        if any(arn in entity.managed_policies for entity in entities):
            raise DeleteConflictException("Cannot delete a policy attached to entities.")
        return super().delete_policy()

    def simulate_principal_policy(self) -> ActionResult:
        return self._allow_all()

    def simulate_custom_policy(self) -> ActionResult:
        return self._allow_all()

    def _allow_all(self) -> ActionResult:
        """Answer "allowed": nothing is checked against policies on this server."""
        results = [
            {
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": "allowed",
                "MatchedStatements": [],
                "MissingContextValues": [],
            }
            for action in self._get_param("ActionNames", [])
            for resource in self._get_param("ResourceArns", ["*"])
        ]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})


class ManagedPolicies:
    """AWS's own policies, each put into the backend when a call first names it.

    moto knows most of them; loading all would cost every attachment a walk over 1,500. One that it
    does not know (AWS adds some each week) is there too, and allows everything.
    """

    @cached_property
    def _known(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads(aws_managed_policies_data)
        return known

    def prepare(self, backend: IAMBackend, call: Call) -> None:
        """Put those into the backend that a call will look for."""
        if call.action == "ListPolicies" and call.text("Scope") != "Local":
            for name, facts in self._known.items():
                self._add(backend, facts["Path"], name)
            return
        for parameter in ("PolicyArn", "PermissionsBoundary"):
            found = MANAGED_POLICY.fullmatch(call.text(parameter))
            if found is not None:
                self._add(backend, found[2], found[3])

    def _add(self, backend: IAMBackend, path: str, name: str) -> None:
        facts = self._known.get(name)
        if facts is None or facts["Path"] != path:
            facts = {
                "DefaultVersionId": "v1",
                "Path": path,
                "Document": _ANYTHING,
                "CreateDate": _SINCE,
                "UpdateDate": _SINCE,
            }
        policy = AWSManagedPolicy.from_data(name, backend.account_id, backend.region_name, facts)
        if policy.arn not in backend.managed_policies:
            backend.managed_policies[policy.arn] = policy
            backend.aws_managed_policies.append(policy)


def add_execution_role(backend: IAMBackend) -> None:
    """Make the role that is always there."""
    backend.create_role(
        role_name=EXECUTION_ROLE,
        assume_role_policy_document=json.dumps(_TRUST),
        path="/",
        permissions_boundary=None,
        description="Every caller of this server is seen to have assumed this role",
        tags=[],
        max_session_duration="3600",
    )
