"""A nightly job with plain boto3: score every file below a prefix, and watch until it is over.

    eval "$(clary env)"
    python nightly.py

No endpoint stays behind: the job brings its instances, and they go with it.
"""

import io
import tarfile
import time
from pathlib import Path

import boto3

HERE = Path(__file__).parent
BUCKET = "customers"
POLL_S = 0.5
"""Here, where a job is over in seconds. On AWS, half a minute will do."""

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")


def main() -> None:
    s3.create_bucket(Bucket=BUCKET)
    for region in range(3):
        rows = "".join(f"{n},{n % 20},{n % 8},{n % 2}\n" for n in range(region, 9000, 3))
        s3.put_object(Bucket=BUCKET, Key=f"today/region-{region}.csv", Body=rows.encode())
    create_model("leaving")
    job = start("leaving", f"leaving-{time.strftime('%Y%m%d-%H%M%S')}")
    status = watch(job)
    if status["TransformJobStatus"] != "Completed":
        raise SystemExit(f"{job}: {status['TransformJobStatus']}. {status.get('FailureReason')}")
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"scores/{job}/")["Contents"]:
        body = s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read().decode()
        lines = body.splitlines()
        print(f"{item['Key'].rpartition('/')[2]}: {len(lines)} rows, the first is {lines[0]}")


def create_model(name: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(HERE / "inference.py", "code/inference.py")
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=archive.getvalue())
    sagemaker.create_model(
        ModelName=name,
        PrimaryContainer={"Image": "clary/python", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/nightly",
    )


def start(model: str, job: str) -> str:
    """Begin a job: many rows in a request, two instances that share the files."""
    sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model,
        BatchStrategy="MultiRecord",
        MaxPayloadInMB=1,
        TransformInput={
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/today/"}
            },
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/scores/{job}",
            "Accept": "text/csv",
            "AssembleWith": "Line",
        },
        # The model gets the columns after the id; the output is id and score.
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )
    return job


def watch(job: str) -> dict[str, object]:
    """Ask until the job has ended; return its description."""
    seen = ""
    while True:
        found = sagemaker.describe_transform_job(TransformJobName=job)
        status = found["TransformJobStatus"]
        if status != seen:
            print(f"{job}: {status}")
            seen = status
        if status in ("Completed", "Failed", "Stopped"):
            return found
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
