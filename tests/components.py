"""Inference components for tests: an endpoint without a model, and components on it."""

import json
from collections.abc import Mapping
from typing import Any

from server import IMAGE, ROLE, Contents, Server, wait_for

NAMER = """
import json, os, time
def model_fn(model_dir):
    with open(os.path.join(model_dir, "name.txt")) as file:
        return file.read()
def input_fn(body, content_type): return json.loads(body or b"{}")
def predict_fn(data, model):
    time.sleep(data.get("sleep_s", 0))
    return {"model": model, "pid": os.getpid()}
def output_fn(prediction, accept): return json.dumps(prediction)
"""
"""A handler that answers with its model's name and its process, after as long as it is told."""


class ComponentEndpoint:
    """One endpoint for inference components.

    Args:
        server: Where it is.
        name: Of endpoint and configuration.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def create(
        self,
        *,
        instance_type: str = "ml.m5.large",
        instances: int = 1,
        bounds: tuple[int, int] | None = None,
        **variant: Any,
    ) -> "ComponentEndpoint":
        """Make the endpoint, and wait until it is InService."""
        scaling = {}
        if bounds is not None:
            limits = {"MinInstanceCount": bounds[0], "MaxInstanceCount": bounds[1]}
            scaling = {"ManagedInstanceScaling": {"Status": "ENABLED", **limits}}
        sagemaker = self.server.sagemaker
        sagemaker.create_endpoint_config(
            EndpointConfigName=self.name,
            ExecutionRoleArn=ROLE,
            ProductionVariants=[
                {
                    "VariantName": "main",
                    "InstanceType": instance_type,
                    "InitialInstanceCount": instances,
                    **scaling,
                    **variant,
                }
            ],
        )
        sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=self.name)
        self.server.wait_for_status(self.name, "InService")
        return self

    def model(
        self,
        name: str,
        files: Mapping[str, Contents] | None = None,
        image: str = IMAGE,
        **fields: Any,
    ) -> str:
        """Make a model whose answers name it."""
        contents = files or {"code/inference.py": NAMER, "name.txt": name}
        url = self.server.upload(contents, name)
        container = {"Image": image, "ModelDataUrl": url, **fields}
        self.server.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container
        )
        return name

    def component(
        self,
        name: str,
        model: str,
        *,
        copies: int = 1,
        cores: float = 1,
        memory_mb: int = 512,
        wait: bool = True,
        **specification: Any,
    ) -> None:
        """Make a component of a model."""
        self.server.sagemaker.create_inference_component(
            InferenceComponentName=name,
            EndpointName=self.name,
            VariantName="main",
            Specification=spec(model, cores=cores, memory_mb=memory_mb, **specification),
            RuntimeConfig={"CopyCount": copies},
        )
        if wait:
            self.wait_for(name)

    def scale(self, name: str, copies: int, *, wait: bool = True) -> None:
        """Want another number of copies."""
        self.server.sagemaker.update_inference_component_runtime_config(
            InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": copies}
        )
        if wait:
            self.wait_for(name)

    def describe(self, name: str) -> dict[str, Any]:
        described: dict[str, Any] = self.server.sagemaker.describe_inference_component(
            InferenceComponentName=name
        )
        return described

    def copies(self, name: str) -> int:
        """Copies that take invocations."""
        return int(self.describe(name)["RuntimeConfig"]["CurrentCopyCount"])

    def wait_for(self, name: str, *statuses: str) -> dict[str, Any]:
        """Wait until a component is InService, or has another of the given statuses."""
        wanted = statuses or ("InService",)

        def settled() -> bool:
            described = self.describe(name)
            status = described["InferenceComponentStatus"]
            if status == "Failed" and status not in wanted:
                raise AssertionError(described["FailureReason"])
            return status in wanted

        wait_for(settled, timeout_s=60, what=f"{name} to be {wanted}")
        return self.describe(name)

    def instances(self) -> int:
        """Instances that the variant has."""
        described = self.server.sagemaker.describe_endpoint(EndpointName=self.name)
        return int(described["ProductionVariants"][0]["CurrentInstanceCount"])

    def invoke(self, component: str, body: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """Invoke a component; return what it answers."""
        reply = self.server.runtime.invoke_endpoint(
            EndpointName=self.name,
            InferenceComponentName=component,
            Body=json.dumps(body or {}),
            ContentType="application/json",
            **more,
        )
        return json.loads(reply["Body"].read())

    def delete(self, *components: str) -> None:
        """Delete components, and wait until they are gone."""
        for name in components:
            self.server.sagemaker.delete_inference_component(InferenceComponentName=name)
        wait_for(
            lambda: not set(components) & self.names(), timeout_s=45, what=f"{components} to go"
        )

    def remove(self) -> None:
        """Delete the endpoint, which has no components any more, and wait until it is gone."""
        sagemaker = self.server.sagemaker

        def is_gone() -> bool:
            listed = sagemaker.list_endpoints(NameContains=self.name, MaxResults=100)
            return all(item["EndpointName"] != self.name for item in listed["Endpoints"])

        sagemaker.delete_endpoint(EndpointName=self.name)
        wait_for(is_gone, timeout_s=45, what=f"{self.name} to go")

    def names(self) -> set[str]:
        listed = self.server.sagemaker.list_inference_components(
            EndpointNameEquals=self.name, MaxResults=100
        )
        return {item["InferenceComponentName"] for item in listed["InferenceComponents"]}


def spec(
    model: str, *, cores: float = 1, memory_mb: int = 512, **specification: Any
) -> dict[str, Any]:
    """Return a Specification."""
    return {
        "ModelName": model,
        "ComputeResourceRequirements": {
            "NumberOfCpuCoresRequired": cores,
            "MinMemoryRequiredInMb": memory_mb,
        },
        **specification,
    }
