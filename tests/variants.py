"""Endpoints of several variants, for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

from server import IMAGE, ROLE, Server

ONE_WORKER = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}


def a_variant_of(
    server: Server,
    name: str,
    code: str,
    *,
    environment: Mapping[str, str] = ONE_WORKER,
    **members: Any,
) -> dict[str, Any]:
    """Create a model with this handler; return a variant of the same name that has it."""
    model = f"model-{name}"
    server.sagemaker.create_model(
        ModelName=model,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": server.upload({"code/inference.py": code}, model),
            "Environment": dict(environment),
        },
        ExecutionRoleArn=ROLE,
    )
    return {
        "VariantName": name,
        "ModelName": model,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1.0,
        **members,
    }


def deploy_variants(
    server: Server,
    name: str,
    variants: Sequence[Mapping[str, Any]],
    shadows: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Create configuration and endpoint of this name; return the description when InService."""
    config: dict[str, Any] = {"EndpointConfigName": name, "ProductionVariants": list(variants)}
    if shadows:
        config["ShadowProductionVariants"] = list(shadows)
    server.sagemaker.create_endpoint_config(**config)
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return server.wait_for_status(name, "InService")


def change(server: Server, name: str, **variants: Mapping[str, Any]) -> dict[str, Any]:
    """Change weights and counts, by variant; return the description when InService again."""
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": variant, **wanted} for variant, wanted in variants.items()
        ],
    )
    return server.wait_for_status(name, "InService")
