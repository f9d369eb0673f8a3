"""A server that asks for signatures: who gets in, who does not, and what boto3 says then.

The codes are AWS's, which differ by family of services: runtime-errors of the SageMaker APIs, S3's
own, and those of the query services.
"""

import http.client
import json
import os
import signal
import stat
import urllib.request
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from clary.signing.keys import AccessKey
from clary.signing.sign import sign
from handlers import ECHO
from server import Server, wait_for

LISTS_A_BUCKET = """
import json
import boto3

def model_fn(model_dir):
    return boto3.client("s3")

def transform_fn(s3, data, content_type, accept):
    s3.put_object(Bucket="shelf", Key="from-the-model", Body=data)
    objects = s3.list_objects_v2(Bucket="shelf")["Contents"]
    return json.dumps([one["Key"] for one in objects]), "application/json"
"""

KEY_BECOMES_KNOWN_S = 2.0
"""Longest time until a running server knows of a change by ``clary keys``."""


def create_key(server, *arguments):
    """Run ``clary keys create`` and return what it printed as (id, secret)."""
    printed = server.cli("keys", "create", "--data-dir", str(server.data_dir), *arguments).stdout
    values = dict(line.split("=", 1) for line in printed.split())
    return values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("authenticated"), CLARY_AUTH="on")
    server.access_key, server.secret_key = create_key(server, "--for", "tests")
    with server:
        server.deploy("echo", {"code/inference.py": ECHO})
        server.s3.create_bucket(Bucket="shelf")
        server.s3.put_object(Bucket="shelf", Key="a", Body=b"1")
        yield server


@pytest.fixture
def make_client(server):
    """Return a function that makes clients of one's own, to spoil; closed at the end."""
    made = []

    def make(service, access_key=None, secret_key=None, **config):
        client = boto3.client(
            service,
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id=access_key or server.access_key,
            aws_secret_access_key=secret_key or server.secret_key,
            config=Config(retries={"total_max_attempts": 1}, **config),
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


def list_models(client):
    return client.list_models()


def invoke(client):
    return client.invoke_endpoint(EndpointName="echo", Body=b"{}", ContentType="application/json")


def put_object(client):
    return client.put_object(Bucket="shelf", Key="b", Body=b"{}")


def who_am_i(client):
    return client.get_caller_identity()


CALLS = {"sagemaker": list_models, "sagemaker-runtime": invoke, "s3": put_object, "sts": who_am_i}
SIGNING_NAMES = {"sagemaker-runtime": "sagemaker"}


def refusal(client):
    """Make the service's call and return (code, status) of the ClientError that it ends in."""
    with pytest.raises(ClientError) as caught:
        CALLS[client.meta.service_model.service_name](client)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def change_on_the_way(client, change):
    """Have ``change`` look at each signed request of the client before it is sent."""
    client.meta.events.register("before-send", lambda request, **_: change(request))
    return client


# -- keys ----------------------------------------------------------------------------------


def test_the_file_of_the_keys_is_readable_by_its_owner_alone(server):
    mode = (server.data_dir / "keys.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_keys_are_listed_without_their_secrets(server):
    printed = server.cli("keys", "list", "--data-dir", str(server.data_dir)).stdout
    assert server.access_key in printed
    assert "tests" in printed
    assert server.secret_key not in printed


def test_a_key_works_soon_after_it_is_made_and_not_long_after_it_is_deleted(server, make_client):
    key_id, secret = create_key(server)
    client = make_client("sagemaker", key_id, secret)
    runtime = make_client("sagemaker-runtime", key_id, secret)
    s3 = make_client("s3", key_id, secret)

    def all_know_it():
        try:
            return [client.list_models(), invoke(runtime), s3.list_buckets()]
        except ClientError:
            return None

    def nobody_knows_it():
        try:
            return not client.list_models()
        except ClientError as error:
            return error.response["Error"]["Code"] == "UnrecognizedClientException"

    wait_for(all_know_it, timeout_s=KEY_BECOMES_KNOWN_S * 2, what="the new key to work")
    server.cli("keys", "delete", key_id, "--data-dir", str(server.data_dir))
    wait_for(nobody_knows_it, timeout_s=KEY_BECOMES_KNOWN_S * 2, what="the key to stop working")
    assert refusal(runtime) == ("UnrecognizedClientException", 403)
    assert refusal(s3) == ("InvalidAccessKeyId", 403)
    assert server.sagemaker.list_models()  # the others are untouched


def test_a_key_file_that_becomes_corrupt_takes_nobody_out(server):
    file, log = server.data_dir / "keys.json", server.data_dir / "logs/server/control.log"
    good = file.read_text()
    file.write_text(good[:-10])
    try:
        wait_for(lambda: "keys stay as they were" in log.read_text(), what="the complaint")
        assert server.sagemaker.list_models()
        assert invoke(server.runtime)
        refused = server.cli("keys", "list", "--data-dir", str(server.data_dir), check=False)
        assert refused.returncode != 0
        assert "is corrupt" in refused.stderr
    finally:
        file.write_text(good)


def test_the_environment_for_clients_holds_the_oldest_key(server):
    printed = server.cli("env", "--data-dir", str(server.data_dir)).stdout
    assert f"AWS_ACCESS_KEY_ID={server.access_key}" in printed
    assert server.secret_key in printed


def test_commands_sign_with_the_key_of_their_environment(server):
    assert "echo" in server.cli("ls").stdout
    assert server.cli("invoke", "echo", "-d", "[1]").stdout.strip() == "[1]"
    refused = server.cli("ls", check=False, AWS_SECRET_ACCESS_KEY="wrong")
    assert refused.returncode != 0
    assert "signature" in refused.stderr
    assert "Traceback" not in refused.stderr


# -- who signs rightly gets in -----------------------------------------------------------


@pytest.mark.parametrize("service", CALLS)
def test_a_signed_call_of_each_service_is_taken(server, service):
    assert CALLS[service](server.client(service))["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_the_caller_is_known_by_whom_the_key_is_for(server):
    identity = server.sts.get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/clary/tests"


def test_credentials_of_sts_work_themselves(server):
    handed_out = server.sts.assume_role(
        RoleArn="arn:aws:iam::123456789012:role/other", RoleSessionName="session"
    )["Credentials"]
    client = boto3.client(
        "sagemaker",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=handed_out["AccessKeyId"],
        aws_secret_access_key=handed_out["SecretAccessKey"],
        aws_session_token=handed_out["SessionToken"],
    )
    assert "Models" in client.list_models()
    client.close()


def test_a_long_body_is_covered_by_its_signature(server):
    body = os.urandom(5_000_000)
    assert server.invoke("echo", body, "application/octet-stream") == body


def test_s3_takes_and_gives_what_is_signed(server):
    body = os.urandom(6_000_000)
    s3 = server.s3
    s3.put_object(Bucket="shelf", Key="big one", Body=body, ContentType="text/x-ü")
    assert s3.get_object(Bucket="shelf", Key="big one")["Body"].read() == body
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="shelf", Prefix="big ")["Contents"]]
    assert keys == ["big one"]


def test_s3_takes_multipart_uploads_of_signed_parts(server, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(12_000_000))
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    server.s3.upload_file(str(source), "shelf", "parts/ä+b", Config=parts)
    server.s3.download_file("shelf", "parts/ä+b", str(target), Config=parts)
    assert target.read_bytes() == source.read_bytes()
    assert server.s3.head_object(Bucket="shelf", Key="parts/ä+b")["ETag"].endswith('-3"')


def test_a_model_calls_s3_with_credentials_of_its_own(server):
    server.deploy("librarian", {"code/inference.py": LISTS_A_BUCKET})
    assert "from-the-model" in json.loads(server.invoke("librarian"))
    # The worker outlives control: its credentials have to as well.
    control, worker = server.pids("clary-control"), server.pids("clary-worker", "librarian/")
    os.kill(control[0], signal.SIGKILL)
    wait_for(
        lambda: server.pids("clary-control") not in ([], control),
        timeout_s=20,
        what="control to come back",
    )
    wait_for(
        lambda: server.sagemaker.list_endpoints()["Endpoints"], timeout_s=30, what="its answers"
    )
    assert "from-the-model" in json.loads(server.invoke("librarian"))
    assert set(worker) <= set(server.pids("clary-worker", "librarian/"))


# -- who does not, does not --------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sagemaker", "MissingAuthenticationToken"),
        ("sagemaker-runtime", "MissingAuthenticationToken"),
        ("s3", "AccessDenied"),
        ("sts", "MissingAuthenticationToken"),
    ],
)
def test_an_unsigned_request_is_refused(make_client, service, code):
    assert refusal(make_client(service, signature_version=UNSIGNED)) == (code, 403)


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sagemaker", "UnrecognizedClientException"),
        ("sagemaker-runtime", "UnrecognizedClientException"),
        ("s3", "InvalidAccessKeyId"),
        ("sts", "InvalidClientTokenId"),
    ],
)
def test_an_unknown_key_is_refused(make_client, service, code):
    assert refusal(make_client(service, "AKIA2222222222222222")) == (code, 403)


WRONG = [
    ("sagemaker", "InvalidSignatureException"),
    ("sagemaker-runtime", "InvalidSignatureException"),
    ("s3", "SignatureDoesNotMatch"),
    ("sts", "SignatureDoesNotMatch"),
]


@pytest.mark.parametrize(("service", "code"), WRONG)
def test_a_wrong_secret_is_refused(make_client, service, code):
    assert refusal(make_client(service, secret_key="wrong")) == (code, 403)


@pytest.mark.parametrize(("service", "code"), WRONG)
def test_a_request_that_was_signed_for_another_host_is_refused(server, make_client, service, code):
    def send_elsewhere(request):
        request.headers["Host"] = f"localhost:{server.port}"

    assert refusal(change_on_the_way(make_client(service), send_elsewhere)) == (code, 403)


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sagemaker", "InvalidSignatureException"),
        ("sagemaker-runtime", "InvalidSignatureException"),
        ("s3", "RequestTimeTooSkewed"),
        ("sts", "SignatureDoesNotMatch"),
    ],
)
@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_clock_that_is_far_off_is_refused(server, make_client, service, code, minutes):
    resign = signed_at(server, service, datetime.now(UTC) + timedelta(minutes=minutes))
    assert refusal(change_on_the_way(make_client(service), resign)) == (code, 403)


@pytest.mark.parametrize("service", CALLS)
def test_a_clock_that_is_a_little_off_is_not(server, make_client, service):
    resign = signed_at(server, service, datetime.now(UTC) - timedelta(minutes=10))
    assert CALLS[service](change_on_the_way(make_client(service), resign))


def body_of(request):
    """Return the body of a request that botocore has prepared: bytes, text or a file."""
    body = request.body or b""
    if hasattr(body, "read"):
        return body.read()
    return body.encode() if isinstance(body, str) else body


def signed_at(server, service, moment):
    """Return a change of a request that signs it anew, at another moment."""
    key = AccessKey(server.access_key, server.secret_key, "tests", moment)

    def resign(request):
        kept = {
            name: value if isinstance(value, str) else value.decode()
            for name, value in request.headers.items()
            if name.lower() in ("content-type", "x-amz-target")
        }
        body = request.body = body_of(request)
        signed = sign(
            request.method,
            request.url,
            kept,
            body,
            key,
            region="us-east-1",
            service=SIGNING_NAMES.get(service, service),
            now=moment,
        )
        for name in list(request.headers):
            if name.lower().startswith("x-amz-") and name.lower() not in signed:
                del request.headers[name]
        for name, value in signed.items():
            request.headers[name] = value

    return resign


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sagemaker", "InvalidSignatureException"),
        ("sagemaker-runtime", "InvalidSignatureException"),
        # S3 learns of it when the last byte is there: 400, and the object is not written.
        ("s3", "XAmzContentSHA256Mismatch"),
        ("sts", "SignatureDoesNotMatch"),
    ],
)
def test_a_body_that_was_changed_on_the_way_is_refused(server, make_client, service, code):
    def tamper(request):
        body = body_of(request)
        request.body = bytes([*body[:-1], body[-1] ^ 1])

    assert refusal(change_on_the_way(make_client(service), tamper))[0] == code


def test_a_changed_object_is_not_written(server, make_client):
    def tamper(request):
        request.body = b"evil"

    client = change_on_the_way(make_client("s3"), tamper)
    with pytest.raises(ClientError, match="XAmzContentSHA256Mismatch"):
        client.put_object(Bucket="shelf", Key="kept-out", Body=b"good")
    with pytest.raises(ClientError, match="404"):
        server.s3.head_object(Bucket="shelf", Key="kept-out")


def test_head_requests_are_refused_in_the_words_that_sdks_match_on(make_client):
    client = make_client("s3", secret_key="wrong")
    for _ in range(2):  # twice on a connection: a HEAD's reply has no body
        with pytest.raises(ClientError) as caught:
            client.head_bucket(Bucket="shelf")
        assert caught.value.response["Error"] == {"Code": "403", "Message": "Forbidden"}


@pytest.mark.parametrize("payload", ["", "UNSIGNED-PAYLOAD"])
def test_a_signature_for_s3_does_not_open_invoke_endpoint(server, payload):
    url = f"{server.url}/endpoints/echo/invocations"
    key = AccessKey(server.access_key, server.secret_key, "tests", datetime.now(UTC))
    headers = {"content-type": "application/json"}
    signed = sign(
        "POST", url, headers, b"{}", key, region="us-east-1", service="s3", now=datetime.now(UTC)
    )
    if payload:
        signed["x-amz-content-sha256"] = payload
    status, body = send(server, "POST", "/endpoints/echo/invocations", b"{}", signed)
    assert status == 403
    assert "InvalidSignatureException" in body or "scoped to correct service" in body


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data", "Multipart/Form-Data"])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"X-Amz-Target": "SageMaker.ListModels"}),
        ("/?Action=GetCallerIdentity&Version=2011-06-15", {}),
        ("/_clary/endpoints/echo", {}),
        ("/endpoints/echo/invocations", {}),
    ],
    ids=["sagemaker", "sts", "own-pages", "runtime"],
)
def test_only_forms_for_s3_may_come_unsigned(server, path, headers, content_type):
    """A form carries its signature inside, where only S3 looks for it."""
    status, _ = send(server, "POST", path, b"{}", {**headers, "Content-Type": content_type})
    assert status == 403


@pytest.mark.parametrize("path", ["/shelf?delete", "/shelf/a?uploads", "/shelf"])
def test_a_form_without_a_policy_changes_nothing(server, path):
    form = b"<Delete><Object><Key>a</Key></Object></Delete>"
    status, _ = send(server, "POST", path, form, {"Content-Type": FORM})
    assert status in (400, 403, 405)
    assert server.s3.get_object(Bucket="shelf", Key="a")["Body"].read() == b"1"
    assert "Uploads" not in server.s3.list_multipart_uploads(Bucket="shelf")


def test_health_is_open_to_all(server):
    with urllib.request.urlopen(f"{server.url}/_clary/health") as reply:
        assert json.load(reply)["authentication"] == "on"


# -- presigned -------------------------------------------------------------------------------


@pytest.fixture(params=["boto3's default", "s3v4"])
def presigner(request, make_client):
    """An S3 client that presigns URLs by SigV2, which boto3 does in us-east-1, or by SigV4."""
    config = {} if request.param != "s3v4" else {"signature_version": "s3v4"}
    client = make_client("s3", **config)
    url = client.generate_presigned_url("get_object", Params={"Bucket": "shelf", "Key": "a"})
    assert ("X-Amz-Signature=" in url) == (request.param == "s3v4")
    assert ("AWSAccessKeyId=" in url) == (request.param != "s3v4")
    return client


def test_a_presigned_url_gets_an_object(server, presigner):
    params = {"Bucket": "shelf", "Key": "a", "ResponseContentType": "text/x-answer"}
    url = presigner.generate_presigned_url("get_object", Params=params)
    with urllib.request.urlopen(url) as reply:
        assert (reply.read(), reply.headers["content-type"]) == (b"1", "text/x-answer")


def test_a_presigned_url_puts_an_object(server, presigner):
    params = {"Bucket": "shelf", "Key": "put by url é", "ContentType": "text/plain"}
    url = presigner.generate_presigned_url("put_object", Params=params)
    status, body = send(server, "PUT", tail(url), b"new", {"Content-Type": "text/plain"})
    assert (status, body) == (200, "")
    stored = server.s3.get_object(Bucket="shelf", Key="put by url é")
    assert (stored["Body"].read(), stored["ContentType"]) == (b"new", "text/plain")


def test_a_presigned_url_is_good_for_its_own_request_alone(server, presigner):
    url = presigner.generate_presigned_url("get_object", Params={"Bucket": "shelf", "Key": "a"})
    other_key = tail(url).replace("/shelf/a?", "/shelf/big?")
    for method, target in [("PUT", tail(url)), ("DELETE", tail(url)), ("GET", other_key)]:
        status, body = send(server, method, target, b"x" if method == "PUT" else b"", {})
        assert status == 403
        assert "<Code>SignatureDoesNotMatch</Code>" in body
    status, body = send(server, "DELETE", f"{tail(url)}&tagging", b"", {})
    assert status == 403
    assert server.s3.get_object(Bucket="shelf", Key="a")["Body"].read() == b"1"


def test_a_presigned_url_opens_no_other_bucket_by_the_name_of_its_host(server, presigner):
    """SigV2 signs no host: bucket "a" with key "b/c" must not pass for "b" with "c" at host "a"."""
    server.s3.create_bucket(Bucket="open-bucket")
    server.s3.put_object(Bucket="open-bucket", Key="c", Body=b"for all")
    server.s3.put_object(Bucket="shelf", Key="open-bucket/c", Body=b"secret")
    params = {"Bucket": "open-bucket", "Key": "c"}
    target = tail(presigner.generate_presigned_url("get_object", Params=params))
    assert send(server, "GET", target, b"", {}) == (200, "for all")
    status, body = send(server, "GET", target, b"", {"Host": f"shelf.localhost:{server.port}"})
    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in body


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_a_presigned_url_may_name_its_bucket_in_the_host(server, version):
    client = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{server.port}",
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(signature_version=version, s3={"addressing_style": "virtual"}),
    )
    url = client.generate_presigned_url("get_object", Params={"Bucket": "shelf", "Key": "a"})
    client.close()
    host = urlsplit(url).netloc
    assert host == f"shelf.localhost:{server.port}"
    assert send(server, "GET", tail(url), b"", {"Host": host}) == (200, "1")


def test_a_bucket_may_be_called_endpoints(server):
    s3 = server.s3
    s3.create_bucket(Bucket="endpoints")
    s3.put_object(Bucket="endpoints", Key="echo/invocations", Body=b"an object")
    stored = s3.get_object(Bucket="endpoints", Key="echo/invocations")
    assert stored["Body"].read() == b"an object"
    upload = s3.create_multipart_upload(Bucket="endpoints", Key="echo/invocations")
    s3.abort_multipart_upload(
        Bucket="endpoints", Key="echo/invocations", UploadId=upload["UploadId"]
    )
    assert server.invoke("echo", b"[1]") == b"[1]"


def test_a_presigned_url_expires(server, presigner):
    url = presigner.generate_presigned_url(
        "get_object", Params={"Bucket": "shelf", "Key": "a"}, ExpiresIn=1
    )

    def is_refused():
        status, body = send(server, "GET", tail(url), b"", {})
        return body if status == 403 else None

    body = wait_for(is_refused, what="the URL to expire")
    assert "<Code>AccessDenied</Code><Message>Request has expired</Message>" in body


def test_a_presigned_post_uploads_what_its_policy_allows(server, presigner):
    form = presigner.generate_presigned_post(
        "shelf",
        "posted/${filename}",
        Fields={"Content-Type": "text/plain"},
        Conditions=[{"Content-Type": "text/plain"}, ["content-length-range", 1, 10]],
    )
    status, body = send_form(server, form, b"12345")
    assert (status, body) == (204, "")
    stored = server.s3.get_object(Bucket="shelf", Key="posted/photo.txt")
    assert (stored["Body"].read(), stored["ContentType"]) == (b"12345", "text/plain")
    status, body = send_form(server, form, b"more than ten bytes")
    assert status == 400
    assert "<Code>EntityTooLarge</Code>" in body
    status, body = send_form(server, form, b"")
    assert status == 400
    assert "<Code>EntityTooSmall</Code>" in body
    form["fields"]["key"] = "elsewhere"
    status, body = send_form(server, form, b"12345")
    assert status == 403
    assert "<Code>AccessDenied</Code>" in body
    form["fields"]["policy"] = form["fields"]["policy"][:-4] + "AAAA"
    status, body = send_form(server, form, b"12345")
    assert status == 403
    assert "<Code>SignatureDoesNotMatch</Code>" in body


# -- and without authentication --------------------------------------------------------------


def test_an_open_server_takes_any_credentials_or_none_but_no_foreign_pages(tmp_path):
    with Server(tmp_path, access_key="whoever", secret_key="whatever") as server:
        server.deploy("echo", {"code/inference.py": ECHO})
        path = "/endpoints/echo/invocations"
        plain = {"Content-Type": "application/json"}
        assert send(server, "POST", path, b"[1]", plain) == (200, "[1]")
        assert send(server, "PUT", "/open", b"", {})[0] == 200
        assert send(server, "PUT", "/open/key", b"1", {})[0] == 200
        assert send(server, "GET", "/open/key", b"", {}) == (200, "1")
        target = {"X-Amz-Target": "SageMaker.ListEndpoints"}
        assert '"echo"' in send(server, "POST", "/", b"{}", target)[1]
        ours = {"Origin": f"http://localhost:{server.port}"}
        assert send(server, "POST", path, b"[1]", {**plain, **ours}) == (200, "[1]")
        for foreign in ({"Origin": "https://example.com"}, {"Host": "rebound.example.com"}):
            assert send(server, "POST", path, b"[1]", {**plain, **foreign})[0] == 403
            assert send(server, "POST", "/", b"{}", {**target, **foreign})[0] == 403
            assert send(server, "PUT", "/open/key", b"evil", foreign)[0] == 403
            form = {"Content-Type": FORM}
            assert send(server, "POST", "/open", b"--x--", {**form, **foreign})[0] == 403
        assert send(server, "GET", "/open/key", b"", {}) == (200, "1")


# -- by hand -----------------------------------------------------------------------------------


def send(server, method, target, body, headers):
    """Send a request as it is and return (status, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, target, body or None, headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def tail(url):
    """Return a URL's path and query."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def send_form(server, form, content):
    """Post a presigned form as a browser does, with a file called photo.txt."""
    lines = []
    for name, value in form["fields"].items():
        lines.append(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n')
    lines.append(
        '--x\r\nContent-Disposition: form-data; name="file"; filename="photo.txt"\r\n'
        "Content-Type: text/plain\r\n\r\n"
    )
    body = "".join(lines).encode() + content + b"\r\n--x--\r\n"
    path = urlsplit(form["url"]).path
    return send(server, "POST", path, body, {"Content-Type": FORM})
