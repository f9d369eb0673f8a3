"""Decide for a few cases, deploy what was decided, and use each once, with plain boto3.

eval "$(clary env)"
python cases.py
"""

import io
import tarfile
import time
from collections.abc import Callable

import boto3
from choose import Kind, Traffic, choose

BUCKET = "choosing"
CODE = b"""
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data.upper(), "text/plain"
"""

CASES = {
    "risk at a checkout": Traffic(
        calls_per_day=400_000, seconds_per_call=0.02, largest_mb=0.01, answer_within_s=0.3
    ),
    "a tool of the back office": Traffic(
        calls_per_day=25, seconds_per_call=0.4, largest_mb=0.5, answer_within_s=20
    ),
    "reports of hundreds of pages": Traffic(
        calls_per_day=300, seconds_per_call=150, largest_mb=80, answer_within_s=3600
    ),
    "all customers, every night": Traffic(
        calls_per_day=5_000_000, seconds_per_call=0.001, largest_mb=0.001, answer_within_s=None
    ),
}

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")


def main() -> None:
    s3.create_bucket(Bucket=BUCKET)
    create_model("choosing")
    for number, (case, traffic) in enumerate(CASES.items()):
        kind, why = choose(traffic)
        print(f"{case}: {kind}, for {why}")
        print(f"  it answers {USES[kind](f'case-{number}', 'hello')}")


def real_time(name: str, text: str) -> str:
    create_endpoint(name, variant={"InstanceType": "ml.m5.large", "InitialInstanceCount": 1})
    return invoke(name, text)


def serverless(name: str, text: str) -> str:
    create_endpoint(
        name, variant={"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 2}}
    )
    return invoke(name, text)


def asynchronous(name: str, text: str) -> str:
    create_endpoint(
        name,
        variant={"InstanceType": "ml.m5.large", "InitialInstanceCount": 1},
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/{name}"}},
    )
    s3.put_object(Bucket=BUCKET, Key=f"in/{name}", Body=text.encode())
    location = f"s3://{BUCKET}/in/{name}"
    reply = runtime.invoke_endpoint_async(EndpointName=name, InputLocation=location)
    key = reply["OutputLocation"].removeprefix(f"s3://{BUCKET}/")
    waiter = s3.get_waiter("object_exists")
    waiter.wait(Bucket=BUCKET, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return read(key)


def batch(name: str, text: str) -> str:
    s3.put_object(Bucket=BUCKET, Key=f"{name}/in.txt", Body=text.encode())
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/"}
    sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="choosing",
        TransformInput={"DataSource": {"S3DataSource": source}, "ContentType": "text/plain"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/{name}-out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    while True:
        job = sagemaker.describe_transform_job(TransformJobName=name)
        if job["TransformJobStatus"] not in ("InProgress", "Stopping"):
            break
        time.sleep(0.5)
    return read(f"{name}-out/in.txt.out")


USES: dict[Kind, Callable[[str, str], str]] = {
    Kind.REAL_TIME: real_time,
    Kind.SERVERLESS: serverless,
    Kind.ASYNC: asynchronous,
    Kind.BATCH: batch,
}
"""How each kind is made, and called once."""


def create_model(name: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        member = tarfile.TarInfo("code/inference.py")
        member.size = len(CODE)
        tar.addfile(member, io.BytesIO(CODE))
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive.getvalue())
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": "clary/python", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/choosing",
    )


def create_endpoint(name: str, *, variant: dict[str, object], **members: object) -> None:
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": "choosing", **variant}],
        **members,
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def invoke(name: str, text: str) -> str:
    reply = runtime.invoke_endpoint(EndpointName=name, Body=text.encode(), ContentType="text/plain")
    return str(reply["Body"].read().decode())


def read(key: str) -> str:
    return str(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode())


if __name__ == "__main__":
    main()
