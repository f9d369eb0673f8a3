"""What the SageMaker Python SDK (v2) sends, call by call, and the texts that it matches on.

The orders of calls were recorded from the real SDK; boto3 sends the same requests without it.
``test_sagemaker_sdk.py`` runs the SDK itself where it is installed.
"""

import io
import json
import tarfile

import numpy as np
import pytest
from botocore.exceptions import ClientError, WaiterError

from handlers import ECHO
from server import IMAGE, ROLE, archive

ACCOUNT = "123456789012"
SKLEARN_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
PYTORCH_IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.1-cpu-py310"
HUGGING_FACE_IMAGE = (
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
    "huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04"
)
FRAMEWORK_VARIABLES = {"SAGEMAKER_CONTAINER_LOG_LEVEL": "20", "SAGEMAKER_REGION": "us-east-1"}
"""What framework models of the SDK always set."""

MULTIPLIES = """
import os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "factor.txt")) as file:
        return int(file.read())

def predict_fn(data, factor):
    return data * factor
"""

SHORT = {"Delay": 0.05, "MaxAttempts": 400}
"""A waiter's pauses; boto3's own are 30 s."""


def create_endpoint(server, name, container):
    """Send what ``Model.deploy`` sends, and wait as boto3 does."""
    sagemaker = server.sagemaker
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, Tags=[]
    )
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1,
        "InstanceType": "ml.m5.large",
    }
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=[])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=[])
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=SHORT)


def error_of(call, **parameters):
    """Return the Error of the ClientError that a call ends in."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(scope="module")
def bucket(server):
    """The SDK's default bucket."""
    name = f"sagemaker-us-east-1-{ACCOUNT}"
    server.s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def put(server, bucket):
    """Return a function that puts an object and returns its URL."""

    def put(key, body):
        server.s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=ACCOUNT)
        return f"s3://{bucket}/{key}"

    return put


# -- the default bucket ----------------------------------------------------------------------


def test_the_default_bucket_is_looked_for_created_and_then_found(server):
    """ListBuckets, HeadBucket, CreateBucket, as ``Session.default_bucket`` does."""
    name = "sagemaker-default-first"
    s3 = server.s3
    assert server.sts.get_caller_identity()["Account"] == ACCOUNT
    assert name not in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    # The SDK creates the bucket on exactly this code and this message.
    missing = error_of(s3.head_bucket, Bucket=name, ExpectedBucketOwner=ACCOUNT)
    assert missing == {"Code": "404", "Message": "Not Found"}
    s3.create_bucket(Bucket=name)
    assert s3.head_bucket(Bucket=name, ExpectedBucketOwner=ACCOUNT)["BucketRegion"] == "us-east-1"
    s3.create_bucket(Bucket=name)  # in us-east-1 that is no error


def test_a_bucket_of_somebody_else_is_forbidden_in_the_words_that_the_sdk_matches_on(
    server, bucket
):
    refused = error_of(server.s3.head_bucket, Bucket=bucket, ExpectedBucketOwner="999999999999")
    assert refused == {"Code": "403", "Message": "Forbidden"}


def test_an_object_that_is_missing_is_told_by_head_and_get_as_the_sdk_expects(server, bucket):
    head = error_of(server.s3.head_object, Bucket=bucket, Key="no/such/key")
    assert head == {"Code": "404", "Message": "Not Found"}
    get = error_of(server.s3.get_object, Bucket=bucket, Key="no/such/key")
    assert get["Code"] == "NoSuchKey"
    with pytest.raises(server.s3.exceptions.NoSuchKey):
        server.s3.get_object(Bucket=bucket, Key="no/such/key")
    assert error_of(server.s3.get_object, Bucket="no-such-bucket", Key="k")["Code"] == (
        "NoSuchBucket"
    )


def test_files_are_uploaded_listed_and_downloaded_by_prefix(server, bucket, put):
    """``upload_data`` puts with KMS and owner, ``list_s3_files`` lists by version 1."""
    server.s3.put_object(
        Bucket=bucket, Key="data/a b.csv", Body=b"1", ServerSideEncryption="aws:kms"
    )
    put("data/c.csv", b"2")
    listed = server.s3.list_objects(Bucket=bucket, Prefix="data/")
    assert [one["Key"] for one in listed["Contents"]] == ["data/a b.csv", "data/c.csv"]
    copied = {"Bucket": bucket, "Key": "data/c.csv"}
    server.s3.copy_object(Bucket=bucket, Key="copies/c.csv", CopySource=copied)
    assert server.s3.get_object(Bucket=bucket, Key="copies/c.csv")["Body"].read() == b"2"


# -- deploy, predict, delete ---------------------------------------------------------------------


def test_a_model_is_deployed_invoked_and_deleted_config_first(server, put):
    url = put("flow/model.tar.gz", archive({"code/inference.py": ECHO}))
    container = {"Image": IMAGE, "Environment": {}, "ModelDataUrl": url}
    create_endpoint(server, "flow", container)
    reply = server.runtime.invoke_endpoint(
        EndpointName="flow", Body=b'{"a": 1}', ContentType="application/json",
        Accept="application/json",
    )  # fmt: skip
    assert json.load(reply["Body"]) == {"a": 1}
    sagemaker = server.sagemaker
    # Predictor.delete_endpoint: the live endpoint must not need its configuration.
    config = sagemaker.describe_endpoint(EndpointName="flow")["EndpointConfigName"]
    sagemaker.delete_endpoint_config(EndpointConfigName=config)
    assert server.invoke("flow", b"[1]") == b"[1]"
    assert sagemaker.describe_endpoint(EndpointName="flow")["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName="flow")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="flow", WaiterConfig=SHORT)
    # Predictor.delete_model comes too late for the configuration, on AWS as here.
    late = error_of(sagemaker.describe_endpoint_config, EndpointConfigName="flow")
    assert late["Code"] == "ValidationException"
    assert late["Message"].startswith('Could not find endpoint configuration "arn:aws:sagemaker:')
    sagemaker.delete_model(ModelName="flow")
    gone = error_of(sagemaker.describe_model, ModelName="flow")
    assert gone["Code"] == "ValidationException"
    assert gone["Message"].startswith('Could not find model "arn:aws:sagemaker:')
    dead = error_of(
        server.runtime.invoke_endpoint, EndpointName="flow", Body=b"", ContentType="text/csv"
    )
    assert dead == {
        "Code": "ValidationError",
        "Message": f"Endpoint flow of account {ACCOUNT} not found.",
    }


def test_an_empty_environment_is_stored_and_read_back_as_none(server, put):
    url = put("plain/model.tar.gz", archive({"code/inference.py": ECHO}))
    container = {"Image": IMAGE, "Environment": {}, "ModelDataUrl": url}
    server.sagemaker.create_model(
        ModelName="plain", ExecutionRoleArn=ROLE, PrimaryContainer=container
    )
    described = server.sagemaker.describe_model(ModelName="plain")
    # Absent members are absent: Terraform and the SDK's version 3 break on {} and null.
    assert described["PrimaryContainer"].get("Environment", {}) == {}
    assert not {"VpcConfig", "Containers", "InferenceExecutionConfig"} & described.keys()


def test_creating_again_what_exists_is_told_in_the_words_that_the_sdk_tolerates(server, put):
    url = put("twice/model.tar.gz", archive({"code/inference.py": ECHO}))
    create_endpoint(server, "twice", {"Image": IMAGE, "ModelDataUrl": url})
    sagemaker = server.sagemaker
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
    model = error_of(
        sagemaker.create_model,
        ModelName="twice",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
    )
    assert model == {
        "Code": "ValidationException",
        "Message": f'Cannot create already existing model "{arn}:model/twice".',
    }
    variants = sagemaker.describe_endpoint_config(EndpointConfigName="twice")["ProductionVariants"]
    config = error_of(
        sagemaker.create_endpoint_config, EndpointConfigName="twice", ProductionVariants=variants
    )
    assert config == {
        "Code": "ValidationException",
        "Message": "Cannot create already existing endpoint configuration "
        f'"{arn}:endpoint-config/twice".',
    }
    endpoint = error_of(sagemaker.create_endpoint, EndpointName="twice", EndpointConfigName="twice")
    assert endpoint == {
        "Code": "ValidationException",
        "Message": f'Cannot create already existing endpoint "{arn}:endpoint/twice".',
    }
    server.delete_endpoint("twice")


def test_the_waiter_for_a_failing_endpoint_ends_and_the_reason_can_be_read(server):
    """A Hugging Face model that names a hub's model and no data, as the SDK sends it."""
    variables = {
        "HF_MODEL_ID": "distilbert-base-uncased",
        "HF_TASK": "text-classification",
        "SAGEMAKER_PROGRAM": "",
        "SAGEMAKER_SUBMIT_DIRECTORY": "",
        **FRAMEWORK_VARIABLES,
    }
    with pytest.raises(WaiterError, match='matched expected path: "Failed"'):
        create_endpoint(server, "hub", {"Image": HUGGING_FACE_IMAGE, "Environment": variables})
    described = server.sagemaker.describe_endpoint(EndpointName="hub")
    assert "ModelDataUrl" in described["FailureReason"]
    assert "distilbert-base-uncased is not fetched" in described["FailureReason"]
    server.delete_endpoint("hub")


# -- where models and code come from -------------------------------------------------------------


def test_code_comes_from_s3_beside_a_model_that_has_none(server, put):
    """SKLearnModel does not repack: the container fetches sourcedir.tar.gz itself."""
    model = put("sklearn/model.tar.gz", archive({"factor.txt": "3"}))
    source = put("sklearn/sourcedir.tar.gz", archive({"serve.py": MULTIPLIES}))
    variables = {
        "SAGEMAKER_PROGRAM": "serve.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": source,
        **FRAMEWORK_VARIABLES,
    }
    container = {"Image": SKLEARN_IMAGE, "ModelDataUrl": model, "Environment": variables}
    create_endpoint(server, "sklearn", container)
    # SKLearnPredictor speaks NPY both ways.
    reply = server.runtime.invoke_endpoint(
        EndpointName="sklearn",
        Body=npy(np.array([[1, 2], [3, 4]])),
        ContentType="application/x-npy",
        Accept="application/x-npy",
    )
    assert reply["ContentType"] == "application/x-npy"
    answer = np.load(io.BytesIO(reply["Body"].read()), allow_pickle=False)
    assert answer.tolist() == [[3, 6], [9, 12]]
    server.delete_endpoint("sklearn")


def test_npy_with_pickled_objects_is_not_unpickled(server, put):
    files = {"factor.txt": "3", "code/inference.py": MULTIPLIES}
    container = {"Image": IMAGE, "ModelDataUrl": put("npy/model.tar.gz", archive(files))}
    create_endpoint(server, "npy", container)
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused = error_of(
        server.runtime.invoke_endpoint,
        EndpointName="npy",
        Body=file.getvalue(),
        ContentType="application/x-npy",
    )
    assert refused["Code"] == "ModelError"
    assert "pickle" in refused["Message"]
    server.delete_endpoint("npy")


def test_a_repacked_model_brings_its_code(server, put):
    """PyTorch and Hugging Face models: code/ in the archive, named by its path in the container."""
    files = {"factor.txt": "5", "code/serve.py": MULTIPLIES}
    variables = {
        "SAGEMAKER_PROGRAM": "serve.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        **FRAMEWORK_VARIABLES,
    }
    container = {
        "Image": PYTORCH_IMAGE,
        "ModelDataUrl": put("repacked/model.tar.gz", archive(files)),
        "Environment": variables,
    }
    create_endpoint(server, "repacked", container)
    reply = server.runtime.invoke_endpoint(
        EndpointName="repacked",
        Body=npy(np.array([2.0])),
        ContentType="application/x-npy",
        Accept="application/json",
    )
    assert json.load(reply["Body"]) == [10.0]
    described = server.sagemaker.describe_model(ModelName="repacked")
    assert described["PrimaryContainer"]["Environment"] == variables
    server.delete_endpoint("repacked")


def test_a_prefix_of_uncompressed_files_is_a_model(server, put):
    put("prefix/factor.txt", b"7")
    put("prefix/code/inference.py", MULTIPLIES.encode())
    url = put("prefix/code/deep/er/unused.txt", b"")
    source = {
        "S3Uri": url.removesuffix("code/deep/er/unused.txt"),
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    create_endpoint(server, "prefix", container)
    assert json.loads(server.invoke("prefix", npy(np.array([6])), "application/x-npy")) == [42]
    described = server.sagemaker.describe_model(ModelName="prefix")["PrimaryContainer"]
    assert described["ModelDataSource"]["S3DataSource"] == source
    assert "ModelDataUrl" not in described
    server.delete_endpoint("prefix")


def test_an_archive_that_python_made_is_read_like_one_that_tar_made(server, put):
    """The SDK packs with tarfile: members may begin with ./ and have folders of their own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, text in [("./factor.txt", "2"), ("./code/inference.py", MULTIPLIES)]:
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        folder = tarfile.TarInfo("./empty")
        folder.type = tarfile.DIRTYPE
        folder.mode = 0o755
        tar.addfile(folder)
    url = put("dotted/model.tar.gz", buffer.getvalue())
    create_endpoint(server, "dotted", {"Image": IMAGE, "ModelDataUrl": url})
    assert json.loads(server.invoke("dotted", npy(np.array([4])), "application/x-npy")) == [8]
    server.delete_endpoint("dotted")
