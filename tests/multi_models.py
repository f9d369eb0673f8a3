"""Multi-model endpoints for tests: small models under a prefix, and what is known of them."""

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from server import IMAGE, ROLE, Contents, Server, archive

NAMER = """
import os
with open(os.path.join(os.path.dirname(__file__), "name.txt")) as file:
    NAME = file.read()
def model_fn(model_dir): return NAME
def predict_fn(data, model): return {"model": model, "pid": os.getpid()}
def output_fn(prediction, accept): import json; return json.dumps(prediction)
"""
"""A handler that answers with its model's name and its process."""


class MultiModelEndpoint:
    """One multi-model endpoint of a server, and the prefix that its models lie under.

    Args:
        server: Where the endpoint is.
        name: Of endpoint, configuration and model, and the prefix.
        storage: The server whose S3 has the models, where it is another one.
    """

    def __init__(self, server: Server, name: str, *, storage: Server | None = None) -> None:
        self.server = server
        self.name = name
        self.s3 = (storage or server).s3

    def create(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        image: str = IMAGE,
        count: int = 1,
        **container: Any,
    ) -> "MultiModelEndpoint":
        """Make the endpoint, and wait until it is InService."""
        sagemaker, name = self.server.sagemaker, self.name
        if "models" not in {b["Name"] for b in self.s3.list_buckets()["Buckets"]}:
            self.s3.create_bucket(Bucket="models")
        sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": image,
                "Mode": "MultiModel",
                "ModelDataUrl": f"s3://models/{name}/",
                "Environment": dict(environment or {}),
                **container,
            },
        )
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": count,
        }
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.server.wait_for_status(name, "InService")
        return self

    def put(self, target: str, files: Mapping[str, Contents] | bytes) -> str:
        """Upload a model: an archive of these files, or these bytes as they are."""
        body = files if isinstance(files, bytes) else archive(files)
        self.s3.put_object(Bucket="models", Key=f"{self.name}/{target}", Body=body)
        return target

    def put_named(self, target: str, name: str = "") -> str:
        """Upload a model that answers with a name."""
        return self.put(
            target, {"code/inference.py": NAMER, "code/name.txt": name or target.partition(".")[0]}
        )

    def invoke(self, target: str, body: Contents = b"{}", **more: Any) -> Any:
        """Call a model and return its decoded answer."""
        return json.loads(self.server.invoke(self.name, body, TargetModel=target, **more))

    def models(self) -> dict[str, dict[str, Any]]:
        """Return what the server tells of each model."""
        url = f"{self.server.url}/_clary/endpoints/{self.name}/models"
        with urllib.request.urlopen(url) as reply:
            rows = json.loads(reply.read())["models"]
        return {row["model"]: row for row in rows}

    def told(self, model: str, member: str) -> Any:
        """Return a member of what the server tells of a model; None before it has heard of it."""
        return self.models().get(model, {}).get(member)

    def loaded(self) -> set[str]:
        """Return the names of the models that are loaded now."""
        return {name for name, row in self.models().items() if row["state"] == "loaded"}
