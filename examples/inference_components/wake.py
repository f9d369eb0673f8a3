# wake.py
import json
import time

import boto3
from botocore.exceptions import ClientError

runtime = boto3.client("sagemaker-runtime")
scaling = boto3.client("application-autoscaling")
target = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "inference-component/triple",
    "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
}
scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=2)
policy = scaling.put_scaling_policy(
    **target,
    PolicyName="wake-up",
    PolicyType="StepScaling",
    StepScalingPolicyConfiguration={
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        "Cooldown": 60,
    },
)
boto3.client("cloudwatch").put_metric_alarm(
    AlarmName="triple-has-no-capacity",
    Namespace="AWS/SageMaker",
    MetricName="NoCapacityInvocationFailures",
    Dimensions=[{"Name": "InferenceComponentName", "Value": "triple"}],
    Statistic="Maximum",
    Period=10,
    EvaluationPeriods=1,
    Threshold=1,
    ComparisonOperator="GreaterThanOrEqualToThreshold",
    AlarmActions=[policy["PolicyARN"]],
)


def ask():
    reply = runtime.invoke_endpoint(
        EndpointName="shared",
        InferenceComponentName="triple",
        ContentType="application/json",
        Body=json.dumps([1, 2]),
    )
    return json.loads(reply["Body"].read())


told = False
while True:
    try:
        print("triple", ask())
        break
    except ClientError as error:
        if not told:
            print(error.response["Error"]["Message"])
        told = True
        time.sleep(1)
