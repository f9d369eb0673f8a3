"""A scikit-learn classifier behind a serverless endpoint: no worker until somebody calls.

Run it where a server is (`clary shell`, or with AWS_ENDPOINT_URL set). With the setting
`serverless.idle_s` at a few seconds it shows cold and warm calls in turn.
"""

import json
import tarfile
import time
from pathlib import Path

import boto3
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers, kinds = load_iris(return_X_y=True)
joblib.dump(LogisticRegression(max_iter=500).fit(flowers, kinds), "model.joblib")

Path("inference.py").write_text("""
import os, joblib

def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))

def predict_fn(data, model):
    return model.predict(data)
""")

with tarfile.open("model.tar.gz", "w:gz") as archive:
    archive.add("model.joblib")
    archive.add("inference.py", "code/inference.py")

s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")

s3.create_bucket(Bucket="models")
s3.upload_file("model.tar.gz", "models", "iris/model.tar.gz")
image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
sagemaker.create_model(
    ModelName="iris",
    ExecutionRoleArn="arn:aws:iam::123456789012:role/any",
    PrimaryContainer={"Image": image, "ModelDataUrl": "s3://models/iris/model.tar.gz"},
)
sagemaker.create_endpoint_config(
    EndpointConfigName="iris",
    ProductionVariants=[
        {
            "VariantName": "AllTraffic",
            "ModelName": "iris",
            "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
        }
    ],
)
sagemaker.create_endpoint(EndpointName="iris", EndpointConfigName="iris")
sagemaker.get_waiter("endpoint_in_service").wait(
    EndpointName="iris", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
)


def classify(rows):
    began = time.perf_counter()
    reply = runtime.invoke_endpoint(
        EndpointName="iris", Body=json.dumps(rows), ContentType="application/json"
    )
    answer = json.loads(reply["Body"].read())
    return answer, time.perf_counter() - began


for row in (0, 60, 120):
    (kind,), seconds = classify([flowers[row].tolist()])
    print(f"flower {row} is of kind {kind}: {seconds * 1000:.0f} ms")
