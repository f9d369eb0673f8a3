# models.py
import io
import tarfile

import boto3

HANDLER = """
import json, pathlib

def model_fn(model_dir):
    return json.loads(pathlib.Path(model_dir, "factor.json").read_text())

def predict_fn(data, model):
    return data * model
"""


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


sagemaker = boto3.client("sagemaker")
s3 = boto3.client("s3")
s3.create_bucket(Bucket="component-models")
for name, factor in {"double": "2", "triple": "3"}.items():
    body = archive({"code/inference.py": HANDLER, "factor.json": factor})
    s3.put_object(Bucket="component-models", Key=f"{name}.tar.gz", Body=body)
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/any",
        PrimaryContainer={
            "Image": "clary/python",
            "ModelDataUrl": f"s3://component-models/{name}.tar.gz",
        },
    )
