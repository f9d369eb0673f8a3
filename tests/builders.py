"""Things with sensible defaults, for tests that care about one field."""

from datetime import UTC, datetime
from typing import Any

from clary.resources.alarm import Alarm, AlarmState, AlarmType, AlarmValue, alarm_arn
from clary.resources.endpoint import VariantState
from clary.resources.endpoint_config import EndpointConfig, ProductionVariant
from clary.resources.inference_component import (
    ComponentSpec,
    ComponentStatus,
    InferenceComponent,
)
from clary.resources.instance import InstanceRecord
from clary.resources.model import ContainerDefinition, Model
from clary.resources.names import Namespace, ResourceKind

NAMESPACE = Namespace("123456789012", "us-east-1")
A_TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def a_container(**fields: Any) -> ContainerDefinition:
    return ContainerDefinition(**{"image": "repo/image:1", **fields})


def a_model(name: str = "digits", **fields: Any) -> Model:
    defaults: dict[str, Any] = {
        "name": name,
        "arn": NAMESPACE.arn(ResourceKind.MODEL, name),
        "containers": (a_container(),),
        "execution_role_arn": None,
        "created_at": A_TIME,
        "definition": {"PrimaryContainer": {"Image": "repo/image:1"}},
    }
    return Model(**{**defaults, **fields})


def a_variant(name: str = "AllTraffic", **fields: Any) -> ProductionVariant:
    defaults: dict[str, Any] = {
        "name": name,
        "model_name": "digits",
        "instance_type": "ml.m5.large",
        "initial_instance_count": 1,
        "definition": {"VariantName": name},
    }
    return ProductionVariant(**{**defaults, **fields})


def an_endpoint_config(name: str = "digits", **fields: Any) -> EndpointConfig:
    defaults: dict[str, Any] = {
        "name": name,
        "arn": NAMESPACE.arn(ResourceKind.ENDPOINT_CONFIG, name),
        "variants": (a_variant(),),
        "created_at": A_TIME,
        "definition": {},
    }
    return EndpointConfig(**{**defaults, **fields})


def a_variant_state(name: str = "AllTraffic", **fields: Any) -> VariantState:
    defaults: dict[str, Any] = {
        "name": name,
        "desired_count": 1,
        "current_count": 0,
        "desired_weight": 1.0,
        "current_weight": 1.0,
    }
    return VariantState(**{**defaults, **fields})


def an_instance(id: str = "i-1", **fields: Any) -> InstanceRecord:
    defaults: dict[str, Any] = {
        "id": id,
        "endpoint_name": "digits",
        "variant_name": "AllTraffic",
        "generation": 1,
        "created_at": A_TIME,
    }
    return InstanceRecord(**{**defaults, **fields})


def an_alarm(name: str = "too-slow", **fields: Any) -> Alarm:
    definition = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": [{"Name": "EndpointName", "Value": "digits"}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 3,
        "Threshold": 50.0,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    state = AlarmState(
        value=AlarmValue.INSUFFICIENT_DATA,
        reason="Unchecked: Initial alarm creation",
        updated_at=A_TIME,
        transitioned_at=A_TIME,
    )
    defaults: dict[str, Any] = {
        "name": name,
        "arn": alarm_arn(NAMESPACE, name),
        "type": AlarmType.METRIC,
        "definition": {**definition, **fields.pop("definition", {})},
        "revision": 1,
        "configured_at": A_TIME,
        "state": state,
    }
    return Alarm(**{**defaults, **fields})


def a_spec(
    *,
    cores: float = 1.0,
    memory_mib: int = 1024,
    accelerators: int = 0,
    model: Model | None = None,
    **members: Any,
) -> ComponentSpec:
    requirements: dict[str, Any] = {
        "NumberOfCpuCoresRequired": cores,
        "MinMemoryRequiredInMb": memory_mib,
    }
    if accelerators:
        requirements["NumberOfAcceleratorDevicesRequired"] = accelerators
    definition = {"ModelName": "digits", "ComputeResourceRequirements": requirements, **members}
    return ComponentSpec(definition=definition, model=model or a_model())


def a_component(name: str = "llm", **fields: Any) -> InferenceComponent:
    spec = fields.get("spec", a_spec())
    defaults: dict[str, Any] = {
        "name": name,
        "arn": NAMESPACE.arn(ResourceKind.INFERENCE_COMPONENT, name),
        "endpoint_name": "digits",
        "variant_name": "AllTraffic",
        "status": ComponentStatus.IN_SERVICE,
        "failure_reason": None,
        "desired_copies": 1,
        "current_copies": 0,
        "spec": spec,
        "revision": 1,
        "generation": 1,
        "definition": {"Specification": spec.definition},
        "created_at": A_TIME,
        "modified_at": A_TIME,
    }
    return InferenceComponent(**{**defaults, **fields})
