# serve.py
import json
import time

import boto3

sagemaker = boto3.client("sagemaker")
runtime = boto3.client("sagemaker-runtime")

sagemaker.create_endpoint_config(
    EndpointConfigName="shared",
    ExecutionRoleArn="arn:aws:iam::123456789012:role/any",
    ProductionVariants=[
        {
            "VariantName": "main",
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "ManagedInstanceScaling": {
                "Status": "ENABLED",
                "MinInstanceCount": 0,
                "MaxInstanceCount": 2,
            },
        }
    ],
)
sagemaker.create_endpoint(EndpointName="shared", EndpointConfigName="shared")
sagemaker.get_waiter("endpoint_in_service").wait(
    EndpointName="shared", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
)
for model, copies in {"double": 2, "triple": 0}.items():
    sagemaker.create_inference_component(
        InferenceComponentName=model,
        EndpointName="shared",
        VariantName="main",
        Specification={
            "ModelName": model,
            "ComputeResourceRequirements": {
                "NumberOfCpuCoresRequired": 0.5,
                "MinMemoryRequiredInMb": 1024,
            },
        },
        RuntimeConfig={"CopyCount": copies},
    )


def wait_for(component):
    while True:
        found = sagemaker.describe_inference_component(InferenceComponentName=component)
        if found["InferenceComponentStatus"] == "InService":
            return found["RuntimeConfig"]
        time.sleep(0.5)


for component in ("double", "triple"):
    print(component, wait_for(component))
reply = runtime.invoke_endpoint(
    EndpointName="shared",
    InferenceComponentName="double",
    ContentType="application/json",
    Body=json.dumps([1, 2]),
)
print("double", json.loads(reply["Body"].read()))
