"""Presigned URLs and forms, made by boto3 and sent by plain HTTP."""

import urllib.request
import uuid
from typing import Any
from urllib.error import HTTPError

import pytest


def _send(request: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    try:
        with urllib.request.build_opener(Stay).open(request, timeout=20) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def test_a_presigned_url_puts_and_gets(s3: Any, bucket: str) -> None:
    place = {"Bucket": bucket, "Key": "a b/ü"}
    put = s3.generate_presigned_url("put_object", Params={**place, "ContentType": "text/plain"})
    headers = {"content-type": "text/plain"}
    assert _send(urllib.request.Request(put, b"body", headers, method="PUT"))[0] == 200
    get = s3.generate_presigned_url(
        "get_object", Params={**place, "ResponseContentType": "text/html"}
    )
    status, replied, body = _send(urllib.request.Request(get))
    assert (status, replied["content-type"], body) == (200, "text/html", b"body")


def _form(fields: dict[str, str], file: bytes, name: str = "photo.png") -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = "".join(parts).encode() + head.encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def _post(post: dict[str, Any], file: bytes, **more: str) -> tuple[int, dict[str, str], bytes]:
    body, content_type = _form({**post["fields"], **more}, file)
    return _send(urllib.request.Request(post["url"], body, {"content-type": content_type}))


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_form_uploads_a_file(s3: Any, bucket: str, size: int) -> None:
    post = s3.generate_presigned_post(
        bucket,
        "up/${filename}",
        Fields={"x-amz-meta-who": "me", "Content-Type": "image/png"},
        Conditions=[{"x-amz-meta-who": "me"}, {"Content-Type": "image/png"}],
    )
    status, headers, body = _post(post, b"\r\n--x" * (size // 5))
    assert (status, body) == (204, b"")
    assert headers["location"].endswith(f"/{bucket}/up/photo.png")
    stored = s3.get_object(Bucket=bucket, Key="up/photo.png")
    assert stored["Body"].read() == b"\r\n--x" * (size // 5)
    assert (stored["ContentType"], stored["Metadata"]) == ("image/png", {"who": "me"})


def test_a_form_is_answered_as_it_wishes(s3: Any, bucket: str) -> None:
    conditions = [["starts-with", "$success_action_status", ""]]
    post = s3.generate_presigned_post(bucket, "k", Conditions=conditions)
    status, _, body = _post(post, b"x", success_action_status="201")
    assert status == 201
    assert b"<Key>k</Key>" in body
    conditions = [["starts-with", "$success_action_redirect", "http://"]]
    post = s3.generate_presigned_post(bucket, "k", Conditions=conditions)
    status, headers, _ = _post(post, b"x", success_action_redirect="http://there/?a=1")
    assert status == 303
    assert headers["location"].startswith(f"http://there/?a=1&bucket={bucket}&key=k&etag=")


def test_a_policy_limits_what_a_form_may_upload(s3: Any, bucket: str) -> None:
    limits = [["content-length-range", 2, 100]]
    post = s3.generate_presigned_post(bucket, "k", Conditions=limits)
    assert _post(post, b"12")[0] == 204
    for file, code in ((b"1", b"EntityTooSmall"), (b"1" * 200_000, b"EntityTooLarge")):
        status, _, body = _post(post, file)
        assert status in (400, 403)
        assert code in body
    status, _, body = _post({**post, "fields": {**post["fields"], "key": "other"}}, b"12")
    assert (status, b"AccessDenied" in body) == (403, True)


def test_a_form_that_is_none_is_refused(s3: Any, bucket: str, s3_url: str) -> None:
    for body, content_type, code in (
        (b"", "multipart/form-data; boundary=b", b"InvalidArgument"),
        (b"nonsense", "multipart/form-data; boundary=b", b"MalformedPOSTRequest"),
        (b"", "multipart/form-data", b"MalformedPOSTRequest"),
    ):
        headers = {"content-type": content_type}
        request = urllib.request.Request(f"{s3_url}/{bucket}", body, headers, method="POST")
        status, _, answer = _send(request)
        assert (status, code in answer) == (400, True)
