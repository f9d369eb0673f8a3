"""Transform jobs on a running server: what goes in, what comes out, what is refused."""

import bz2
import gzip
import json
import struct
from typing import Any

import pytest
from botocore.exceptions import ClientError

from server import Server, wait_for
from transforms import a_model, data_log, finish, outputs, progress, put, start

pytestmark = pytest.mark.timeout(120)

NUMBERS = b"".join(b"%d,%d\n" % (n, n * n) for n in range(1000))
FAILURE = "AlgorithmError: See job logs for more information"
CLIENT = "ClientError: See job logs for more information"

DOUBLE = """
import json

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if content_type == "text/csv":
        rows = [line.split(",") for line in data.splitlines()]
        return "\\n".join(f"{float(row[-1]) * 2:g}" for row in rows), accept
    keys = [sorted(json.loads(line)) for line in data.splitlines()]
    return "\\n".join(json.dumps({"keys": key}) for key in keys), accept
"""


@pytest.fixture(scope="module")
def upper(server: Server) -> str:
    return a_model(server, "upper")


@pytest.fixture(scope="module")
def double(server: Server) -> str:
    return a_model(server, "double", DOUBLE)


def test_every_file_of_a_prefix_has_its_output_and_empty_ones_none(
    server: Server, upper: str
) -> None:
    put(server, "prefix", {"in/a.csv": b"a,b\nc,d", "in/deep/b.csv": b"x\n" * 10, "in/empty": b""})
    put(server, "prefix-out", {})
    start(server, "prefix", upper, "s3://prefix/in", "s3://prefix-out/o/", count=2)
    description = finish(server, "prefix")
    assert outputs(server, "prefix-out") == {
        "o/a.csv.out": b"A,B\nC,D\n",
        "o/deep/b.csv.out": b"X\n" * 10,
    }
    assert (
        description["CreationTime"]
        <= description["TransformStartTime"]
        <= description["TransformEndTime"]
    )
    assert progress(server, "prefix")["files"] == {"all": 2, "done": 2, "failed": 0}
    assert data_log(server, "prefix")[0].endswith(
        "[sagemaker logs]: MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    )
    wait_for(lambda: not server.pids("clary-worker"), timeout_s=30, what="its workers to end")
    streams = server.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix="prefix/"
    )["logStreams"]
    assert len(streams) == 3


def test_a_bad_record_costs_its_file_only_and_the_job_fails(server: Server, upper: str) -> None:
    put(server, "bad", {"in/a.csv": b"good\n", "in/b.csv": b"good\npoison\n", "in/c.csv": b"too\n"})
    start(
        server,
        "bad",
        upper,
        "s3://bad/in/",
        "s3://bad/out",
        BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsMaxRetries": 1},
    )
    assert finish(server, "bad", "Failed")["FailureReason"] == FAILURE
    assert sorted(outputs(server, "bad", "out")) == ["out/a.csv.out", "out/c.csv.out"]
    lines = data_log(server, "bad")
    assert any(line.endswith("bad/in/b.csv: AlgorithmError: 500") for line in lines)
    assert any("poison is not allowed" in line for line in lines)
    (failure,) = progress(server, "bad")["failures"]
    assert failure["file"] == "bad/in/b.csv"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packed_input_is_unpacked_whatever_packed_it(server: Server, upper: str, pack: Any) -> None:
    name = f"packed-{pack.__module__.strip('_')}"
    # Two members in a row, as parallel packers write them.
    put(server, name, {"in/x.csv.z": pack(NUMBERS) + pack(b"end\n")})
    into = {"CompressionType": "Gzip"}
    start(server, name, upper, f"s3://{name}/in", f"s3://{name}/out", into=into)
    finish(server, name)
    assert outputs(server, name, "out") == {"out/x.csv.z.out": NUMBERS + b"END\n"}


def test_manifests_name_the_objects(server: Server, upper: str) -> None:
    manifest = json.dumps([{"prefix": "s3://listed/in/"}, "a.csv", "deep/b.csv"]).encode()
    augmented = b'{"source-ref": "s3://listed/in/a.csv", "n": 1}\n'
    objects = {"in/a.csv": b"a\n", "in/deep/b.csv": b"b\n", "in/c.csv": b"c\n"}
    put(server, "listed", {**objects, "m.json": manifest, "m.jsonl": augmented})
    one = {"source": "ManifestFile"}
    start(server, "listed", upper, "s3://listed/m.json", "s3://listed/out", **one)
    start(
        server,
        "augmented",
        upper,
        "s3://listed/m.jsonl",
        "s3://listed/augmented",
        source="AugmentedManifestFile",
    )
    finish(server, "listed")
    finish(server, "augmented")
    assert outputs(server, "listed", "out") == {
        "out/a.csv.out": b"A\n",
        "out/deep/b.csv.out": b"B\n",
    }
    assert outputs(server, "listed", "augmented") == {"augmented/a.csv.out": b"A\n"}


def test_filters_and_join_of_csv(server: Server, double: str) -> None:
    put(server, "joined", {"in.csv": NUMBERS})
    start(
        server,
        "joined",
        double,
        "s3://joined/in.csv",
        "s3://joined/out",
        out={"Accept": "text/csv"},
        MaxConcurrentTransforms=4,
        MaxPayloadInMB=1,
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    finish(server, "joined")
    expected = "".join(f"{n},{n * n * 2:g}\n" for n in range(1000)).encode()
    assert outputs(server, "joined", "out") == {"out/in.csv.out": expected}


def test_join_of_json_lines(server: Server, double: str) -> None:
    put(server, "lines", {"in.jsonl": b'{"id": 1, "x": 2}\n{"id": 2, "x": 3}\n'})
    start(
        server,
        "lines",
        double,
        "s3://lines/in.jsonl",
        "s3://lines/out",
        into={"ContentType": "application/jsonlines"},
        out={"Accept": "application/jsonlines"},
        DataProcessing={"JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"},
    )
    finish(server, "lines")
    (output,) = outputs(server, "lines", "out").values()
    assert output.decode().splitlines() == [
        '{"id":1,"SageMakerOutput":{"keys":["id","x"]}}',
        '{"id":2,"SageMakerOutput":{"keys":["id","x"]}}',
    ]


def test_ragged_rows_under_a_filter_fail_their_file(server: Server, double: str) -> None:
    put(server, "ragged", {"in/a.csv": b"1,2\n3\n", "in/b.csv": b"1,2\n"})
    start(
        server,
        "ragged",
        double,
        "s3://ragged/in",
        "s3://ragged/out",
        out={"Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1]"},
    )
    assert finish(server, "ragged", "Failed")["FailureReason"] == CLIENT
    assert outputs(server, "ragged", "out") == {"out/b.csv.out": b"4\n"}
    assert "index 1 is outside of a record of 1 items" in str(progress(server, "ragged"))


def test_records_of_recordio_reach_the_model_in_their_frames(server: Server, upper: str) -> None:
    record = struct.pack("<II", 0xCED7230A, 5) + b"hello\0\0\0"
    put(server, "recordio", {"in/good.rec": record * 3, "in/torn.rec": record + record[:9]})
    kind = {"ContentType": "application/x-recordio-protobuf", "SplitType": "RecordIO"}
    out = {"AssembleWith": "None"}
    start(server, "recordio", upper, "s3://recordio/in", "s3://recordio/out", into=kind, out=out)
    assert finish(server, "recordio", "Failed")["FailureReason"] == CLIENT
    expected = {"out/good.rec.out": record.upper() * 3}
    assert outputs(server, "recordio", "out") == expected
    assert "ends inside of a record" in str(progress(server, "recordio"))


def test_a_record_larger_than_a_payload_fails_its_file(server: Server, upper: str) -> None:
    put(server, "large", {"in/a.csv": b"x" * 1024 * 1024 + b"y\n", "in/b.csv": b"b\n"})
    start(server, "large", upper, "s3://large/in", "s3://large/out", MaxPayloadInMB=1)
    assert finish(server, "large", "Failed")["FailureReason"] == CLIENT
    text = "Record is larger than 1MB. Please increase your max_payload"
    assert any(text in line for line in data_log(server, "large"))
    assert outputs(server, "large", "out") == {"out/b.csv.out": b"B\n"}


def test_without_a_limit_files_are_streamed_whole(server: Server, upper: str) -> None:
    body = b"abcdefgh" * 1024 * 1024
    put(server, "whole", {"in.bin": body})
    into = {"ContentType": "application/octet-stream", "SplitType": "None"}
    start(
        server,
        "whole",
        upper,
        "s3://whole/in.bin",
        "s3://whole/out",
        into=into,
        out={"AssembleWith": "None"},
        MaxPayloadInMB=0,
    )
    finish(server, "whole")
    assert outputs(server, "whole", "out") == {"out/in.bin.out": body.upper()}


def test_nothing_under_a_prefix_is_a_failure(server: Server, upper: str) -> None:
    put(server, "nothing", {})
    start(server, "nothing", upper, "s3://nothing/in", "s3://nothing/out")
    reason = finish(server, "nothing", "Failed")["FailureReason"]
    assert reason == "ClientError: S3 key: s3://nothing/in matched no files on s3"


def test_a_model_that_cannot_be_loaded_fails_its_job(server: Server) -> None:
    model = a_model(server, "broken", "import no_such_module_anywhere\n")
    put(server, "broken", {"a.csv": b"a\n"})
    start(server, "broken", model, "s3://broken/a.csv", "s3://broken/out")
    reason = finish(server, "broken", "Failed")["FailureReason"]
    assert reason.startswith("AlgorithmError: ")
    assert "no_such_module_anywhere" in reason


def test_a_bucket_that_is_not_there_takes_no_output(server: Server, upper: str) -> None:
    put(server, "homeless", {"a.csv": b"a\n"})
    start(server, "homeless", upper, "s3://homeless/a.csv", "s3://no-such-bucket/out")
    assert finish(server, "homeless", "Failed")["FailureReason"] == CLIENT
    assert "no-such-bucket" in str(progress(server, "homeless"))


def test_the_jobs_environment_reaches_the_model(server: Server) -> None:
    code = "import os\n\ndef model_fn(d):\n    return None\n\n" + (
        "def transform_fn(model, data, content_type, accept):\n"
        "    names = ('SAGEMAKER_BATCH', 'SAGEMAKER_BATCH_STRATEGY',\n"
        "             'SAGEMAKER_MAX_PAYLOAD_IN_MB', 'COLOUR', 'SIZE')\n"
        "    return ' '.join(str(os.environ.get(n)) for n in names), 'text/plain'\n"
    )
    model = a_model(server, "environment", code, COLOUR="red", SIZE="8")
    put(server, "environment", {"a.csv": b"a\n"})
    start(
        server,
        "environment",
        model,
        "s3://environment/a.csv",
        "s3://environment/out",
        Environment={"COLOUR": "blue"},
        BatchStrategy="SingleRecord",
    )
    finish(server, "environment")
    assert outputs(server, "environment", "out") == {
        "out/a.csv.out": b"true SINGLE_RECORD None blue 8\n"
    }


def test_no_client_can_invoke_the_instances_of_a_job(server: Server, upper: str) -> None:
    for name in ("transform-job/prefix", "transform-job%2Fprefix"):
        with pytest.raises(ClientError):
            server.runtime.invoke_endpoint(EndpointName=name, Body=b"x")


def test_an_event_tells_of_each_status(server: Server, upper: str) -> None:
    put(server, "told", {"a.csv": b"a\n"})
    start(
        server, "told", upper, "s3://told/a.csv", "s3://told/out", Tags=[{"Key": "k", "Value": "v"}]
    )
    finish(server, "told")
    start(server, "told-no", upper, "s3://told/none", "s3://told/out")
    reason = finish(server, "told-no", "Failed")["FailureReason"]

    def events(name: str) -> list[Any]:
        lines = (server.data_dir / "events.jsonl").read_text().splitlines()
        found = {event["id"]: event for event in map(json.loads, lines)}.values()
        return [event for event in found if event["detail"].get("TransformJobName") == name]

    wait_for(lambda: len(events("told-no")) == 2, what="events of two statuses")
    begun, ended = events("told")
    assert begun["detail-type"] == ended["detail-type"] == "SageMaker Transform Job State Change"
    statuses = [event["detail"]["TransformJobStatus"] for event in (begun, ended)]
    assert statuses == ["InProgress", "Completed"]
    assert ended["detail"]["ModelName"] == upper
    assert ended["detail"]["Tags"] == {"k": "v"}
    assert ended["resources"] == ["arn:aws:sagemaker:us-east-1:123456789012:transform-job/told"]
    assert events("told-no")[1]["detail"]["FailureReason"] == reason


@pytest.mark.parametrize(
    ("name", "text", "path", "complaint"),
    [
        ("none", b'{"a": 1}\n{"b": 2}\n', "$.a", "does not have a"),
        ("no-json", b'{"a": 1}\nnot json\n', "$.a", "no JSON"),
        ("no-object", b'{"a": 1}\n', "$.a.x", "does not have x"),
        ("no-array", b'{"a": {"x": 1}}\n', "$.a.x[0:0]", "it is no array"),
        ("outside", b'{"a": {"x": []}}\n', "$.a.x[0:0]", "outside of a record of 0 items"),
    ],
)
def test_paths_that_lead_nowhere_fail_their_file(
    server: Server, double: str, name: str, text: bytes, path: str, complaint: str
) -> None:
    job = f"nowhere-{name}"
    put(server, job, {"in/bad.jsonl": text, "in/good.jsonl": b'{"a": {"x": [1]}}\n'})
    start(
        server,
        job,
        double,
        f"s3://{job}/in",
        f"s3://{job}/out",
        into={"ContentType": "application/jsonlines"},
        out={"Accept": "application/jsonlines"},
        DataProcessing={"InputFilter": path},
    )
    assert finish(server, job, "Failed")["FailureReason"] == CLIENT
    (failure,) = progress(server, job)["failures"]
    assert failure["file"] == f"{job}/in/bad.jsonl"
    assert complaint in failure["reason"]
    assert list(outputs(server, job, "out")) == ["out/good.jsonl.out"]
