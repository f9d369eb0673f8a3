import json
import tarfile
from pathlib import Path

import boto3
import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

# A model, and the two functions that are special about it.
images, labels = load_digits(return_X_y=True)
train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, random_state=0
)
joblib.dump(SVC(gamma=0.001).fit(train_images, train_labels), "model.joblib")

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

# The calls that you would send to AWS.
s3 = boto3.client("s3")
sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")

s3.create_bucket(Bucket="models")
s3.upload_file("model.tar.gz", "models", "digits/model.tar.gz")

image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3"
sagemaker.create_model(
    ModelName="digits",
    ExecutionRoleArn="arn:aws:iam::123456789012:role/any",
    PrimaryContainer={
        "Image": image,
        "ModelDataUrl": "s3://models/digits/model.tar.gz",
    },
)
sagemaker.create_endpoint_config(
    EndpointConfigName="digits",
    ProductionVariants=[
        {
            "VariantName": "AllTraffic",
            "ModelName": "digits",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
        }
    ],
)
sagemaker.create_endpoint(EndpointName="digits", EndpointConfigName="digits")
sagemaker.get_waiter("endpoint_in_service").wait(
    EndpointName="digits", WaiterConfig={"Delay": 1, "MaxAttempts": 120}
)

reply = runtime.invoke_endpoint(
    EndpointName="digits",
    ContentType="application/json",
    Body=json.dumps(test_images[:10].tolist()),
)
print("predicted", json.load(reply["Body"]))
print("in truth ", test_labels[:10].tolist())
