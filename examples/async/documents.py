"""An asynchronous endpoint with plain boto3: documents go in, summaries lie in S3 later.

    eval "$(clary env)"
    python documents.py

They are sent while the endpoint has no instance at all, and wait for one.
"""

import io
import json
import tarfile
import time
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

HERE = Path(__file__).parent
BUCKET = "documents"
ENDPOINT = "summaries"
VARIANT = "AllTraffic"

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")


def main() -> None:
    s3.create_bucket(Bucket=BUCKET)
    create_endpoint()
    scale(0)
    calls = {name: submit(name, text) for name, text in documents().items()}
    print(f"{len(calls)} documents wait for an instance")
    scale(1)
    for name, call in calls.items():
        location, is_good = first_of(call["OutputLocation"], call["FailureLocation"])
        body = read(location)
        print(f"{name}: {json.loads(body)['topics'][0] if is_good else 'failed: ' + body}")


def documents() -> dict[str, str]:
    return {
        "whales.txt": "The whale dives and the whale breathes; a whale is no fish. " * 4000,
        "bridges.txt": "A bridge carries a road, and another bridge a railway. " * 4000,
        "empty.txt": " ",
    }


def create_endpoint() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(HERE / "inference.py", "code/inference.py")
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive.getvalue())
    sagemaker.create_model(
        ModelName=ENDPOINT,
        PrimaryContainer={"Image": "clary/python", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/documents",
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=ENDPOINT,
        ProductionVariants=[
            {
                "VariantName": VARIANT,
                "ModelName": ENDPOINT,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/summaries",
                "S3FailurePath": f"s3://{BUCKET}/failures",
            },
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
        },
    )
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    wait_in_service()


def scale(count: int) -> None:
    """Want so many instances. Autoscaling does it by itself, by the backlog's metrics."""
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=ENDPOINT,
        DesiredWeightsAndCapacities=[{"VariantName": VARIANT, "DesiredInstanceCount": count}],
    )
    wait_in_service()


def wait_in_service() -> None:
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=ENDPOINT, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
    )


def submit(name: str, text: str) -> dict[str, str]:
    """Put a document into S3 and a call for it into the queue."""
    s3.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=text.encode())
    reply: dict[str, str] = runtime.invoke_endpoint_async(
        EndpointName=ENDPOINT,
        InputLocation=f"s3://{BUCKET}/in/{name}",
        ContentType="text/plain",
        Accept="application/json",
    )
    return reply


def first_of(output: str, failure: str) -> tuple[str, bool]:
    """Look until one of two objects is there; return which, and whether it is the good one."""
    while True:
        for location, is_good in ((output, True), (failure, False)):
            try:
                s3.head_object(**place(location))
                return location, is_good
            except ClientError as error:
                if error.response["Error"]["Code"] != "404":
                    raise
        time.sleep(0.2)


def read(location: str) -> str:
    return str(s3.get_object(**place(location))["Body"].read().decode())


def place(location: str) -> dict[str, str]:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


if __name__ == "__main__":
    main()
