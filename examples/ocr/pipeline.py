"""Reads a page by three models in a row, as one endpoint.

Each step is a container whose image brings code and model, by its row in clary.toml:

    python -m venv venv && venv/bin/pip install rapidocr-onnxruntime
    CLARY_CONFIG=clary.toml clary up

and in another terminal, after eval "$(clary env)":

    python pipeline.py page.png
"""

import json
import sys
from pathlib import Path

import boto3

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ocr"

sagemaker = boto3.client("sagemaker")
sagemaker.create_model(
    ModelName="ocr",
    ExecutionRoleArn="arn:aws:iam::123456789012:role/ocr",
    Containers=[
        {"ContainerHostname": step, "Image": f"{REGISTRY}:{step}"}
        for step in ("detect", "classify", "recognise")
    ],
)
sagemaker.create_endpoint_config(
    EndpointConfigName="ocr",
    ProductionVariants=[
        {
            "VariantName": "AllTraffic",
            "ModelName": "ocr",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
    ],
)
sagemaker.create_endpoint(EndpointName="ocr", EndpointConfigName="ocr")
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="ocr", WaiterConfig={"Delay": 1})

reply = boto3.client("sagemaker-runtime").invoke_endpoint(
    EndpointName="ocr", ContentType="image/png", Body=Path(sys.argv[1]).read_bytes()
)
for line in json.load(reply["Body"])["lines"]:
    print(f"{line['score']:.2f} {line['text']}")
