"""Stories of inference components: two models on one endpoint, from zero and back, and updates."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from components import NAMER, ComponentEndpoint, spec
from server import ROLE, Server, wait_for

ADAPTER_SERVER = Path(__file__).with_name("adapter_server.py")
SHORT = {"CLARY_FLEET_MAX_WORKERS": "1"}

NO_CAPACITY = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server"), **SHORT) as running:
        yield running


def refusal(call, *args, **kwargs):
    with pytest.raises(ClientError) as error:
        call(*args, **kwargs)
    found = error.value.response
    status = found["ResponseMetadata"]["HTTPStatusCode"]
    return found["Error"]["Code"], status, found["Error"]["Message"]


def test_a_model_at_zero_copies_is_woken_by_a_step_policy_after_a_refused_call(server):
    endpoint = ComponentEndpoint(server, "zero").create(bounds=(0, 2))
    for name in ("busy", "idle"):
        endpoint.model(name)
    endpoint.component("zero-busy", "busy")
    endpoint.component("zero-idle", "idle", copies=0)
    scaling = server.client("application-autoscaling")
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "inference-component/zero-idle",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
    }
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=2)
    policy = scaling.put_scaling_policy(
        **target,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Maximum",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
            "Cooldown": 60,
        },
    )["PolicyARN"]
    server.client("cloudwatch").put_metric_alarm(
        AlarmName="wake-idle",
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": "zero-idle"}],
        Statistic="Maximum",
        Period=30,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[policy],
    )
    assert endpoint.invoke("zero-busy")["model"] == "busy"
    assert refusal(endpoint.invoke, "zero-idle") == ("ValidationError", 400, NO_CAPACITY)
    wait_for(lambda: endpoint.copies("zero-idle") == 1, timeout_s=90, what="a copy")
    assert endpoint.invoke("zero-idle")["model"] == "idle"
    assert endpoint.invoke("zero-busy")["model"] == "busy"

    def ended():
        done = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")
        return [a for a in done["ScalingActivities"] if a["StatusCode"] == "Successful"]

    wait_for(ended, timeout_s=30, what="the activity to end")
    assert ended()[0]["Description"] == "Setting desired copy count to 1."
    endpoint.delete("zero-busy", "zero-idle")
    wait_for(lambda: endpoint.instances() == 0, timeout_s=30, what="the instances to go")
    gone = {"ServiceNamespace": "sagemaker", "ResourceIds": [target["ResourceId"]]}
    wait_for(
        lambda: not scaling.describe_scalable_targets(**gone)["ScalableTargets"],
        timeout_s=30,
        what="the scalable target to go with its component",
    )
    endpoint.remove()


def test_an_update_under_load_loses_no_call_and_ends_with_the_new_model(server):
    endpoint = ComponentEndpoint(server, "rolled").create(instances=2)
    for name in ("old", "new"):
        endpoint.model(name)
    endpoint.component("rolled-ic", "old", copies=2, cores=0.5)
    answers, errors, ended = [], [], threading.Event()

    def call():
        while not ended.is_set():
            try:
                answers.append(endpoint.invoke("rolled-ic", {"sleep_s": 0.01})["model"])
            except Exception as error:
                errors.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        wait_for(lambda: len(answers) > 5, timeout_s=30, what="the first answers")
        server.sagemaker.update_inference_component(
            InferenceComponentName="rolled-ic",
            Specification=spec("new", cores=0.5),
            DeploymentConfig={
                "RollingUpdatePolicy": {
                    "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                    "WaitIntervalInSeconds": 1,
                }
            },
        )
        described = endpoint.describe("rolled-ic")
        assert described["InferenceComponentStatus"] == "Updating"
        endpoint.wait_for("rolled-ic")
        count = len(answers)
        wait_for(lambda: len(answers) > count + 20, timeout_s=30, what="answers after it")
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    assert errors == []
    assert answers[0] == "old"
    assert set(answers[-10:]) == {"new"}
    described = endpoint.describe("rolled-ic")
    assert described["Specification"]["ModelName"] == "new"
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert "FailureReason" not in described
    endpoint.delete("rolled-ic")
    endpoint.remove()


def test_an_update_whose_model_cannot_load_is_rolled_back(server):
    endpoint = ComponentEndpoint(server, "back").create(instances=2)
    endpoint.model("good")
    endpoint.model("broken", {"code/inference.py": "raise ValueError('no such luck')"})
    endpoint.component("back-ic", "good", cores=0.5)
    server.sagemaker.update_inference_component(
        InferenceComponentName="back-ic", Specification=spec("broken", cores=0.5)
    )
    wait_for(
        lambda: endpoint.describe("back-ic").get("FailureReason"), timeout_s=60, what="a verdict"
    )
    described = endpoint.wait_for("back-ic")
    assert described["FailureReason"].startswith("The update failed: The primary container for ")
    assert "no such luck" in described["FailureReason"]
    assert described["Specification"]["ModelName"] == "good"
    assert endpoint.invoke("back-ic")["model"] == "good"
    endpoint.delete("back-ic")
    endpoint.remove()


def test_what_does_not_fit_waits_with_a_reason_and_comes_when_there_is_room(server):
    endpoint = ComponentEndpoint(server, "full").create(bounds=(1, 2))
    endpoint.model("large")
    endpoint.component("full-a", "large", copies=3, memory_mb=5000, wait=False)
    described = endpoint.wait_for("full-a")
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 3, "CurrentCopyCount": 2}
    assert described["FailureReason"] == (
        "Waiting for capacity: 1 of 3 copies are not placed. Each copy needs 1 CPU cores, 5000 MB "
        'of memory, and none of the 2 ml.m5.large instances of variant "main" has room for it. '
        "ManagedInstanceScaling allows no more than 2 instances."
    )
    assert endpoint.instances() == 2
    endpoint.component("full-b", "large", memory_mb=5000, wait=False)
    wait_for(
        lambda: endpoint.describe("full-b").get("FailureReason"), timeout_s=30, what="a reason"
    )
    assert endpoint.describe("full-b")["InferenceComponentStatus"] == "Creating"
    code, status, text = refusal(endpoint.invoke, "full-b")
    assert (code, status, text) == ("ValidationError", 400, NO_CAPACITY)
    endpoint.scale("full-a", 1)
    assert "FailureReason" not in endpoint.wait_for("full-b")
    assert endpoint.invoke("full-b")["model"] == "large"
    endpoint.component("full-never", "large", memory_mb=100_000, wait=False)
    reason = endpoint.wait_for("full-never", "Failed")["FailureReason"]
    assert reason == (
        'Inference component "full-never" can be placed on no instance: a copy needs 1 CPU cores, '
        "100000 MB of memory, and an instance of type ml.m5.large has 2 CPU cores, 8192 MB of "
        "memory."
    )
    endpoint.delete("full-a", "full-b", "full-never")
    wait_for(lambda: endpoint.instances() == 1, timeout_s=30, what="the second instance to go")
    endpoint.remove()


def test_an_endpoint_with_components_cannot_be_deleted(server):
    endpoint = ComponentEndpoint(server, "kept").create()
    endpoint.model("kept-model")
    endpoint.component("kept-ic", "kept-model", copies=0)
    code, _, text = refusal(server.sagemaker.delete_endpoint, EndpointName="kept")
    assert (code, text.endswith("Delete them first: kept-ic.")) == ("ValidationException", True)
    endpoint.delete("kept-ic")
    endpoint.remove()


def test_an_endpoint_is_updated_to_other_instances_while_its_components_serve(server):
    endpoint = ComponentEndpoint(server, "moved").create()
    endpoint.model("moved-model")
    endpoint.component("moved-ic", "moved-model")
    before = endpoint.invoke("moved-ic")["pid"]
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="moved-2",
        ExecutionRoleArn=ROLE,
        ProductionVariants=[
            {"VariantName": "main", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
        ],
    )
    server.sagemaker.update_endpoint(EndpointName="moved", EndpointConfigName="moved-2")

    def has_moved():
        return endpoint.invoke("moved-ic")["pid"] != before  # each call must be answered

    wait_for(has_moved, timeout_s=60, what="the copy on the new instance")
    server.wait_for_status("moved", "InService")
    endpoint.wait_for("moved-ic")
    endpoint.delete("moved-ic")
    endpoint.remove()


ADAPTING = """
import json, os
def model_fn(model_dir): return "base"
def transform_fn(model, body, content_type, accept, context):
    adapter = context.get_request_header(0, "X-Amzn-SageMaker-Adapter-Identifier")
    if adapter is None:
        return json.dumps({"adapter": None}), "application/json"
    with open(os.path.join(os.environ["SAGEMAKER_ADAPTERS_DIR"], adapter, "weights.txt")) as file:
        return json.dumps({"adapter": file.read()}), "application/json"
"""


def test_adapters_live_in_the_copies_of_their_base(server):
    endpoint = ComponentEndpoint(server, "adapted").create(instances=2)
    endpoint.model("adapted-base", {"code/inference.py": ADAPTING})
    endpoint.component("adapted-ic", "adapted-base")
    for name in ("red", "blue"):
        url = server.upload({"weights.txt": name}, f"adapter-{name}")
        server.sagemaker.create_inference_component(
            InferenceComponentName=name,
            EndpointName="adapted",
            Specification={
                "BaseInferenceComponentName": "adapted-ic",
                "Container": {"ArtifactUrl": url},
            },
        )
    for name in ("red", "blue"):
        endpoint.wait_for(name)
        assert endpoint.invoke(name) == {"adapter": name}
    assert endpoint.invoke("adapted-ic") == {"adapter": None}
    endpoint.scale("adapted-ic", 2)
    wait_for(lambda: endpoint.copies("red") == 2, timeout_s=30, what="red on both copies")
    described = endpoint.describe("red")
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    code, _, text = refusal(
        server.sagemaker.delete_inference_component, InferenceComponentName="adapted-ic"
    )
    assert (code, text.endswith("Delete them first: blue, red.")) == ("ValidationException", True)
    url = server.upload({"weights.txt": "redder"}, "adapter-redder")
    server.sagemaker.update_inference_component(
        InferenceComponentName="red",
        Specification={
            "BaseInferenceComponentName": "adapted-ic",
            "Container": {"ArtifactUrl": url},
        },
    )
    wait_for(
        lambda: endpoint.invoke("red") == {"adapter": "redder"}, timeout_s=30, what="the new one"
    )
    server.sagemaker.create_inference_component(
        InferenceComponentName="grey",
        EndpointName="adapted",
        Specification={
            "BaseInferenceComponentName": "adapted-ic",
            "Container": {"ArtifactUrl": "s3://models/there-is-none.tar.gz"},
        },
    )
    assert "there-is-none" in endpoint.wait_for("grey", "Failed")["FailureReason"]
    endpoint.delete("red", "blue", "grey")
    assert endpoint.invoke("adapted-ic") == {"adapter": None}
    endpoint.delete("adapted-ic")
    endpoint.remove()


def test_logs_of_a_component_are_in_a_group_of_its_own(server):
    endpoint = ComponentEndpoint(server, "logged").create()
    code = NAMER.replace("def predict_fn", "print('it is loaded')\ndef predict_fn")
    endpoint.model("logged-model", {"code/inference.py": code, "name.txt": "logged"})
    endpoint.component("logged-ic", "logged-model")
    logs = server.client("logs")
    group = "/aws/sagemaker/InferenceComponents/logged-ic"
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert [stream["logStreamName"].split("/")[0] for stream in streams] == ["main"]
    words = {"logGroupName": group, "filterPattern": '"it is loaded"'}
    wait_for(lambda: logs.filter_log_events(**words)["events"], timeout_s=30, what="the line")
    endpoint.delete("logged-ic")
    endpoint.remove()


def test_a_server_of_the_users_own_is_told_of_adapters(server):
    endpoint = ComponentEndpoint(server, "told").create()
    endpoint.model(
        "told-base",
        image="clary/server:1",
        Environment={"CLARY_COMMAND": f"python {ADAPTER_SERVER}"},
    )
    endpoint.component("told-ic", "told-base")
    for name in ("green", "bad"):
        url = server.upload({"weights.txt": name}, f"told-{name}")
        server.sagemaker.create_inference_component(
            InferenceComponentName=f"told-{name}",
            EndpointName="told",
            Specification={
                "BaseInferenceComponentName": "told-ic",
                "Container": {"ArtifactUrl": url},
            },
        )
    endpoint.wait_for("told-green")
    first = endpoint.invoke("told-green")
    assert first["adapter"] == "green"
    assert endpoint.invoke("told-ic")["adapter"] is None
    reason = endpoint.wait_for("told-bad", "Failed")["FailureReason"]
    assert "answered 400 to POST /adapters" in reason
    # A server that dies is started anew, and told again before it is asked again.
    with pytest.raises(ClientError, match="ModelError"):
        endpoint.invoke("told-ic", {"die": True})
    answer = endpoint.invoke("told-green")
    assert answer["adapter"] == "green"
    assert answer["pid"] != first["pid"]
    endpoint.delete("told-green", "told-bad")
    endpoint.delete("told-ic")
    endpoint.remove()


def test_streams_come_from_components_too(server):
    endpoint = ComponentEndpoint(server, "streamed").create()
    code = "def model_fn(d): return 1\ndef predict_fn(data, model):\n    yield 'a'\n    yield 'b'\n"
    endpoint.model("streamed-model", {"code/inference.py": code})
    endpoint.component("streamed-ic", "streamed-model")
    reply = server.runtime.invoke_endpoint_with_response_stream(
        EndpointName="streamed",
        InferenceComponentName="streamed-ic",
        Body=b"{}",
        ContentType="application/json",
    )
    parts = [event["PayloadPart"]["Bytes"] for event in reply["Body"]]
    assert b"".join(parts) == b"ab"
    assert reply["InvokedProductionVariant"] == "main"
    endpoint.delete("streamed-ic")
    endpoint.remove()


def test_names_that_do_not_belong_together_are_refused(server):
    endpoint = ComponentEndpoint(server, "named").create()
    endpoint.model("named-model")
    endpoint.component("named-ic", "named-model")
    server.deploy("plain", {"code/inference.py": NAMER, "name.txt": "plain"})
    plain = ComponentEndpoint(server, "plain")
    assert refusal(plain.invoke, "named-ic")[2] == (
        "Inference Component Name header is not allowed for endpoints to which you dont plan to "
        "deploy inference components. Please remove the Inference Component Name header and try "
        "again."
    )
    assert refusal(endpoint.invoke, "nobody")[2] == (
        "Inference Component nobody not found for endpoint named."
    )
    call = {"EndpointName": "named", "Body": b"{}"}
    assert refusal(server.runtime.invoke_endpoint, **call)[2] == (
        "Inference Component Name header is required for endpoints to which you plan to deploy "
        "inference components. Please include Inference Component Name header or consider using "
        "SageMaker models."
    )
    assert refusal(endpoint.invoke, "named-ic", TargetVariant="x")[2] == (
        "Variant x not found for endpoint named."
    )
    assert endpoint.invoke("named-ic", TargetVariant="main")["model"] == "named-model"
    wrong = {"EndpointName": "named", "InferenceComponentName": "named-ic", "Body": b"no json"}
    with pytest.raises(ClientError) as caught:
        server.runtime.invoke_endpoint(**wrong)
    error = caught.value.response
    assert error["Error"]["Code"] == "ModelError"
    assert error["LogStreamArn"].endswith(":/aws/sagemaker/InferenceComponents/named-ic")
    endpoint.delete("named-ic")
    endpoint.remove()
    server.delete_endpoint("plain")


def test_metrics_are_kept_by_component(server):
    endpoint = ComponentEndpoint(server, "measured").create()
    endpoint.model("measured-model")
    endpoint.component("measured-ic", "measured-model", copies=2, cores=0.5)
    for _ in range(4):
        endpoint.invoke("measured-ic")
    cloudwatch = server.client("cloudwatch")

    def total(metric, statistic="Sum", **dimensions):
        now = datetime.now(UTC)
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=[statistic],
        )["Datapoints"]
        return sum(point[statistic] for point in points)

    own = {"InferenceComponentName": "measured-ic"}
    wait_for(lambda: total("Invocations", **own) == 4, timeout_s=30, what="4 invocations")
    assert total("InvocationsPerCopy", **own) == 2
    assert total("ModelLatency", "SampleCount", **own) == 4
    wait_for(
        lambda: total("Invocations", EndpointName="measured", VariantName="main") == 4,
        timeout_s=30,
        what="the same under the endpoint",
    )
    endpoint.scale("measured-ic", 0)
    for _ in range(3):
        refusal(endpoint.invoke, "measured-ic")
    wait_for(
        lambda: total("NoCapacityInvocationFailures", **own) == 3,
        timeout_s=30,
        what="3 refused calls",
    )
    endpoint.delete("measured-ic")
    endpoint.remove()


def test_instances_of_components_count_against_quota_and_machine(tmp_path):
    with Server(
        tmp_path,
        **SHORT,
        CLARY_FLEET_INSTANCE_TYPE_QUOTAS='{"ml.m5.large": 1}',
        CLARY_FLEET_CAPACITY="strict",
    ) as server:
        endpoint = ComponentEndpoint(server, "strict").create(bounds=(1, 3))
        endpoint.model("strict-model")
        endpoint.component("strict-ic", "strict-model", copies=3, cores=1, wait=False)
        described = endpoint.wait_for("strict-ic")
        assert described["RuntimeConfig"]["CurrentCopyCount"] == 2
        assert "The account-level service limit 'ml.m5.large" in described["FailureReason"]
        endpoint.scale("strict-ic", 2)
        assert "FailureReason" not in endpoint.describe("strict-ic")
