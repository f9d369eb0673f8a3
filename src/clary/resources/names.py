"""Names and ARNs: what they may look like, and how one becomes the other.

An ARN's resource part is lower-cased while the name keeps its case, so two names that differ only
in case would share an ARN: ``name_key`` is what must be unique. The refusals that quote an ARN are
here too, because clients match on AWS's words ("Could not find", "Cannot create already existing").
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from clary.errors import AlreadyExists, InUse, NotFound

MAX_NAME_LENGTH = 63

# botocore's patterns. Anchored at both ends here, which service models leave to the reader.
_HYPHENATED = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}\Z")
_MODEL_NAME = re.compile(r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")
_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sagemaker:(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}):"
    r"(?P<kind>[a-z-]+)/(?P<key>.+)\Z"
)


class ResourceKind(StrEnum):
    """The kinds of things that have a name and an ARN, as ARNs spell them."""

    MODEL = "model"
    ENDPOINT_CONFIG = "endpoint-config"
    ENDPOINT = "endpoint"
    TRANSFORM_JOB = "transform-job"
    INFERENCE_COMPONENT = "inference-component"

    @property
    def noun(self) -> str:
        """What AWS's messages call it."""
        if self is ResourceKind.ENDPOINT_CONFIG:
            return "endpoint configuration"
        return self.value.replace("-", " ")


def is_endpoint_name(name: str) -> bool:
    """Whether an endpoint, an endpoint configuration or a variant may have this name."""
    return len(name) <= MAX_NAME_LENGTH and _HYPHENATED.match(name) is not None


def is_model_name(name: str) -> bool:
    """Whether a model may have this name."""
    return len(name) <= MAX_NAME_LENGTH and _MODEL_NAME.match(name) is not None


def name_key(name: str) -> str:
    """Return the form of a name that must be unique among things of its kind."""
    return name.lower()


def partition_of(region: str) -> str:
    """Return the AWS partition that a region lies in."""
    if region.startswith("cn-"):
        return "aws-cn"
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"


@dataclass(frozen=True, slots=True)
class ResourceId:
    """What an ARN points to."""

    kind: str
    """As in the ARN; a ``ResourceKind`` where we know it."""

    key: str
    """Lower-cased name."""


def parse_arn(arn: str) -> ResourceId | None:
    """Return what a SageMaker ARN points to, or None when it is none."""
    match = _ARN.match(arn)
    return None if match is None else ResourceId(match["kind"], name_key(match["key"]))


@dataclass(frozen=True, slots=True)
class Namespace:
    """The account and region that all ARNs of this server carry."""

    account: str
    region: str

    def arn(self, kind: ResourceKind, name: str) -> str:
        """Return the ARN of a named thing, its resource part lower-cased."""
        return (
            f"arn:{partition_of(self.region)}:sagemaker:{self.region}:{self.account}"
            f":{kind}/{name_key(name)}"
        )

    # The words of the next three are AWS's: SDKs, Terraform and waiters match on them
    # (contract: runtime-errors.md 3, client-flows.md 1).

    def could_not_find(self, kind: ResourceKind, name: str) -> NotFound:
        """Return the refusal for a name that nothing has."""
        if kind is ResourceKind.TRANSFORM_JOB:
            return NotFound(f"Could not find requested job with name: {name}")
        return NotFound(f'Could not find {kind.noun} "{self.arn(kind, name)}".')

    def already_exists(self, kind: ResourceKind, name: str) -> AlreadyExists:
        """Return the refusal for a name that is taken."""
        arn = self.arn(kind, name)
        if kind is ResourceKind.TRANSFORM_JOB:
            return AlreadyExists(
                f"Job name must be unique within an AWS account and region, and a transform job "
                f"with this name already exists ({arn})"
            )
        return AlreadyExists(f'Cannot create already existing {kind.noun} "{arn}".')

    def in_progress(self, name: str, kind: ResourceKind = ResourceKind.ENDPOINT) -> InUse:
        """Return the refusal for a thing that is being created, changed or deleted."""
        return InUse(f'Cannot update in-progress {kind.noun} "{self.arn(kind, name)}".')
