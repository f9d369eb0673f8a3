"""Chunked bodies, signed and with trailers, cut anywhere."""

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clary.errors import AccessDenied, InvalidRequest
from clary.signing import sigv4
from clary.signing.chunks import MAX_LINE, ChunkDecoder, ChunkSigning
from clary.signing.keys import AccessKey

SCOPE = b"20130524/us-east-1/s3/aws4_request"
MOMENT = b"20130524T000000Z"
# The example of Amazon's "Signature calculations for the Authorization header: chunked upload".
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEED = b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
EXAMPLE_SIGNATURES = (
    b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
SIGNING = ChunkSigning(sigv4.derive_key(SECRET, "20130524", "us-east-1", "s3"), SCOPE, MOMENT, SEED)


def example() -> bytes:
    first, second, last = EXAMPLE_SIGNATURES
    return (
        b"10000;chunk-signature=%s\r\n%s\r\n" % (first, b"a" * 65536)
        + b"400;chunk-signature=%s\r\n%s\r\n" % (second, b"a" * 1024)
        + b"0;chunk-signature=%s\r\n\r\n" % last
    )


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def sign_chunks(chunks: list[bytes], trailers: dict[bytes, bytes]) -> bytes:
    """Write signed chunks as a client does, from the rules and not from the code under test."""
    previous = SEED
    body = b""
    for chunk in [*chunks, b""]:
        text = b"\n".join(
            [
                b"AWS4-HMAC-SHA256-PAYLOAD",
                MOMENT,
                SCOPE,
                previous,
                sha256(b""),
                sha256(chunk),
            ]
        )
        previous = hmac.digest(SIGNING.key, text, "sha256").hex().encode()
        body += b"%x;chunk-signature=%s\r\n" % (len(chunk), previous)
        body += chunk + b"\r\n" if chunk else b""
    if trailers:
        lines = b"".join(b"%s:%s\n" % item for item in trailers.items())
        text = b"\n".join([b"AWS4-HMAC-SHA256-TRAILER", MOMENT, SCOPE, previous, sha256(lines)])
        signature = hmac.digest(SIGNING.key, text, "sha256").hex().encode()
        body += lines.replace(b"\n", b"\r\n") + b"x-amz-trailer-signature:%s\r\n" % signature
    return body + b"\r\n"


def decode(body: bytes, decoder: ChunkDecoder, cut: int = 10**9) -> bytes:
    pieces = []
    for start in range(0, len(body), cut):
        pieces.extend(decoder.feed(body[start : start + cut]))
    decoder.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("cut", [1000, 65536, 10**9])
def test_the_example_of_the_documentation_verifies(cut: int) -> None:
    decoder = ChunkDecoder(SIGNING, expected_length=66560)
    assert decode(example(), decoder, cut) == b"a" * 66560
    assert decoder.finished
    assert decoder.decoded_length == 66560


CHUNKS = st.lists(st.binary(min_size=1, max_size=50), max_size=4)
TRAILERS = st.dictionaries(
    st.sampled_from([b"x-amz-checksum-crc32", b"x-amz-checksum-sha256"]),
    st.sampled_from([b"AAAAAA==", b"b64="]),
)


@given(CHUNKS, TRAILERS, st.integers(1, 80))
def test_signed_chunks_and_trailers_verify_however_they_are_cut(
    chunks: list[bytes], trailers: dict[bytes, bytes], cut: int
) -> None:
    decoder = ChunkDecoder(SIGNING)
    assert decode(sign_chunks(chunks, trailers), decoder, cut) == b"".join(chunks)
    assert decoder.trailers == {n.decode(): v.decode() for n, v in trailers.items()}


@given(CHUNKS, st.integers(1, 80))
def test_unsigned_chunks_with_a_trailer(chunks: list[bytes], cut: int) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    body += b"0\r\nX-Amz-Checksum-CRC32: AAAAAA==\r\n\r\n"
    decoder = ChunkDecoder()
    assert decode(body, decoder, cut) == b"".join(chunks)
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


def test_signatures_are_read_over_when_nothing_is_verified() -> None:
    assert decode(example().replace(b"ad80", b"0000"), ChunkDecoder()) == b"a" * 66560


CHANGES = {
    "data": (b"aaa\r\n400", b"aab\r\n400"),
    "first signature": (EXAMPLE_SIGNATURES[0], EXAMPLE_SIGNATURES[1]),
    "last signature": (EXAMPLE_SIGNATURES[2], b"0" * 64),
    "no signature": (b";chunk-signature=" + EXAMPLE_SIGNATURES[1], b""),
    "a chunk less": (
        b"400;chunk-signature=%s\r\n%s\r\n" % (EXAMPLE_SIGNATURES[1], b"a" * 1024),
        b"",
    ),
}


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES)
def test_a_change_breaks_the_chain(old: bytes, new: bytes) -> None:
    body = example().replace(old, new)
    assert body != example()
    with pytest.raises(AccessDenied) as caught:
        decode(body, ChunkDecoder(SIGNING))
    assert caught.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("change", [(b"AAAA", b"BBBB"), (b"trailer-signature", b"other")])
def test_a_changed_trailer_does_not_verify(change: tuple[bytes, bytes]) -> None:
    body = sign_chunks([b"abc"], {b"x-amz-checksum-crc32": b"AAAAAA=="})
    with pytest.raises(AccessDenied):
        decode(body.replace(*change), ChunkDecoder(SIGNING))


FAULTS = {
    "no size": b"\r\n",
    "no number": b"xyz\r\n",
    "negative": b"-1\r\n",
    "signed": b"+1\r\na\r\n",
    "prefix": b"0x1\r\na\r\n",
    "underscore": b"1_0\r\n",
    "too large": b"ffffffffffff\r\n",
    "too many digits": b"0" * 1000 + b"1\r\na\r\n",
    "line without end": b"1" * (MAX_LINE + 1),
    "data longer than its size": b"1\r\nab\r\n",
    "behind the end": b"0\r\n\r\nmore\r\n",
    "trailer without colon": b"0\r\nnonsense\r\n\r\n",
    "trailer twice": b"0\r\na:1\r\na:2\r\n\r\n",
    "trailers without end": b"0\r\n" + b"".join(b"a%d:1\r\n" % n for n in range(1000)),
    "cut in data": b"5\r\nab",
    "cut before the last chunk": b"1\r\na\r\n",
    "cut in trailers": b"0\r\na:1\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
def test_what_are_no_chunks_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode(body, ChunkDecoder())


@pytest.mark.parametrize("length", [2, 4])
def test_the_data_has_to_have_the_length_announced(length: int) -> None:
    with pytest.raises(InvalidRequest, match=str(length)):
        decode(b"3\r\nabc\r\n0\r\n\r\n", ChunkDecoder(expected_length=length))


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_garbage(body: bytes) -> None:
    try:
        decode(body, ChunkDecoder(SIGNING))
    except (InvalidRequest, AccessDenied):
        pass


def test_what_to_check_with_comes_from_the_head_of_the_request() -> None:
    key = AccessKey("AKIA1", SECRET, "root", datetime.now(UTC))
    authorization = b"AWS4-HMAC-SHA256 Credential=AKIA1/%s, SignedHeaders=host, Signature=%s"
    headers = {b"authorization": authorization % (SCOPE, SEED), b"x-amz-date": MOMENT}
    assert ChunkSigning.of_request(headers, key) == SIGNING
    with pytest.raises(InvalidRequest):
        ChunkSigning.of_request({}, key)
