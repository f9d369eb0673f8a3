"""What a request for an inference component may say, and what it comes to. Pure.

A request has a ``Specification``, or ``Specifications`` with one for each instance type of the
variant's. What contradicts itself is refused here; whether there is room is seen later.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from clary.errors import InvalidRequest
from clary.resources.inference_component import ComponentSpec, RollingPolicy
from clary.resources.model import ContainerDefinition, Model

Definition = Mapping[str, Any]


def check_definition(definition: Definition) -> None:
    """Refuse specifications whose members contradict each other.

    Args:
        definition: ``Specification`` or ``Specifications``, and what stands beside them.

    Raises:
        InvalidRequest: They do, or there is none.
    """
    has_one, has_several = "Specification" in definition, "Specifications" in definition
    if has_one and has_several:
        raise InvalidRequest("Specification and Specifications cannot both be given.")
    if not has_one and not has_several:
        raise InvalidRequest("An inference component needs a Specification.")
    specs = specifications(definition)
    types = [spec.get("InstanceType") for spec in specs]
    if len(specs) > 1 and (None in types or len(set(types)) < len(types)):
        raise InvalidRequest(
            "Each of several Specifications needs an InstanceType, and each another one."
        )
    for spec in specs:
        _check_spec(spec)
    if len({spec.get("BaseInferenceComponentName") for spec in specs}) > 1:
        raise InvalidRequest("All Specifications must have the same BaseInferenceComponentName.")


def check_deployment(config: Mapping[str, Any] | None, copies: int) -> None:
    """Refuse a batch size that no update can have (service model: 5 to 50 % of the copies).

    Raises:
        InvalidRequest: It is out of range.
    """
    if not config:
        return
    policy = RollingPolicy.parse(config)
    if policy.size_type == "CAPACITY_PERCENT" and not 5 <= policy.size <= 50:
        raise InvalidRequest(
            "MaximumBatchSize must be between 5 and 50 percent of the copies; it is "
            f"{policy.size} percent."
        )
    if policy.size_type == "COPY_COUNT" and policy.size > max(copies // 2, 1):
        raise InvalidRequest(
            f"MaximumBatchSize must be at most 50 percent of the copies, which are {copies}; it is "
            f"{policy.size}."
        )


def specifications(definition: Definition) -> Sequence[Definition]:
    """Return the specifications of a request: one, or one for each instance type."""
    if "Specification" in definition:
        return [definition["Specification"]]
    several: Sequence[Definition] = definition["Specifications"]
    return several


def choose_spec(definition: Definition, instance_type: str | None) -> Definition:
    """Return the specification for an instance type.

    Raises:
        InvalidRequest: There is none for it.
    """
    specs = specifications(definition)
    for spec in specs:
        if spec.get("InstanceType") in (None, instance_type):
            return spec
    named = ", ".join(str(spec["InstanceType"]) for spec in specs)
    raise InvalidRequest(
        f"The variant's instances are of type {instance_type}: none of the specifications, which "
        f"are for {named}, can be used on them."
    )


def base_of(definition: Definition) -> str | None:
    """Return the base component of an adapter; None: it is no adapter."""
    base: str | None = specifications(definition)[0].get("BaseInferenceComponentName")
    return base


def spec_of(
    spec: Definition, name: str, model: Model | None, created_at: datetime
) -> ComponentSpec:
    """Return what the copies run.

    Args:
        spec: The specification.
        name: Of the component.
        model: The one that the specification names, where it names one.
        created_at: For the model that a ``Container`` stands for.

    Raises:
        InvalidRequest: The model is one that no component can run.
    """
    if "BaseInferenceComponentName" in spec:
        return ComponentSpec(definition=spec, model=None)
    if model is None:
        container = spec["Container"]
        definition = ContainerDefinition(
            image=container["Image"],
            model_data_url=container.get("ArtifactUrl"),
            environment=container.get("Environment", {}),
        )
        model = Model(
            name=name,
            arn="",
            containers=(definition,),
            execution_role_arn=None,
            created_at=created_at,
            definition={},
        )
    elif len(model.containers) == 1 and model.containers[0].mode == "SingleModel":
        model = _with_own_container(model, spec.get("Container", {}))
    else:
        raise InvalidRequest(
            f'Model "{model.arn}" cannot be used by an inference component: it needs exactly one '
            "container, in SingleModel mode."
        )
    return ComponentSpec(definition=spec, model=model)


def _with_own_container(model: Model, container: Mapping[str, Any]) -> Model:
    """Return a model with what a component says instead of it."""
    own = model.containers[0]
    changed = ContainerDefinition(
        image=container.get("Image", own.image),
        model_data_url=container.get("ArtifactUrl", own.model_data_url),
        model_data_source=None if "ArtifactUrl" in container else own.model_data_source,
        environment={**own.environment, **container.get("Environment", {})},
        hostname=own.hostname,
    )
    return Model(
        name=model.name,
        arn=model.arn,
        containers=(changed,),
        execution_role_arn=model.execution_role_arn,
        created_at=model.created_at,
        definition=model.definition,
    )


def _check_spec(spec: Definition) -> None:
    if "BaseInferenceComponentName" in spec:
        _check_adapter(spec)
        return
    container = spec.get("Container", {})
    if "ModelName" not in spec and "Image" not in container:
        raise InvalidRequest(
            "The Specification of an inference component needs a ModelName, or a Container with an "
            "Image."
        )
    if "ComputeResourceRequirements" not in spec:
        raise InvalidRequest(
            "The Specification of an inference component needs ComputeResourceRequirements."
        )
    requirements = spec["ComputeResourceRequirements"]
    least = requirements["MinMemoryRequiredInMb"]
    most = requirements.get("MaxMemoryRequiredInMb")
    if most is not None and most < least:
        raise InvalidRequest(
            f"MaxMemoryRequiredInMb {most} cannot be less than MinMemoryRequiredInMb {least}."
        )
    if "AcceleratorPartitionType" in requirements:
        raise InvalidRequest(
            "AcceleratorPartitionType cannot be used: this server does not partition accelerators."
        )


def _check_adapter(spec: Definition) -> None:
    for member in ("ModelName", "ComputeResourceRequirements", "SchedulingConfig"):
        if member in spec:
            raise InvalidRequest(
                f"An adapter inference component cannot have {member}: it uses the model and the "
                "compute resources of its base inference component."
            )
    container = spec.get("Container", {})
    if "ArtifactUrl" not in container:
        raise InvalidRequest(
            "An adapter inference component needs a Container with the ArtifactUrl of its adapter."
        )
    if "Image" in container or "Environment" in container:
        raise InvalidRequest(
            "The Container of an adapter inference component can only have an ArtifactUrl: the "
            "adapter is loaded by the container of its base inference component."
        )
