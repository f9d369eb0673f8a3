"""Frames and JSON lines survive any cutting of the byte stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clary.messages import (
    BODY,
    HEAD,
    INVOKE,
    MAX_BODY_PART,
    MAX_META,
    MORE,
    PART,
    REPLY,
    FrameDecoder,
    LineDecoder,
    MetaCache,
    ProtocolError,
    decode_meta,
    encode_frame,
    encode_line,
    encode_meta,
    parse_address,
)

frames = st.builds(
    lambda kind, rid, flags, status, number, meta, body: (
        kind,
        flags,
        status,
        rid,
        number,
        encode_meta(meta),
        body,
    ),
    st.sampled_from([INVOKE, REPLY]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, MORE]),
    st.integers(0, 999),
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3),
    st.binary(max_size=300),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sent, cuts):
    stream = b"".join(
        encode_frame(k, r, flags=f, status=s, number=n, meta=m, body=b)
        for k, f, s, r, n, m, b in sent
    )
    decoder, received, position, turn = FrameDecoder(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        received += decoder.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    assert [tuple(frame) for frame in received] == sent


@settings(deadline=None)  # bodies of some MB; the machine may be busy
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(BODY, 0), (PART, 200), (PART, 500), (REPLY, 200)]),
            st.sampled_from([0, MORE]),
            st.integers(0, MAX_BODY_PART),
        ),
        max_size=6,
    ),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=8),
)
def test_long_bodies_are_handed_on_as_they_come_and_lose_nothing(sent, cuts):
    stream = b"".join(
        encode_frame(kind, number, flags=flags, status=status, body=bytes([number + 1]) * length)
        for number, ((kind, status), flags, length) in enumerate(sent)
    )
    decoder, received, position, turn = FrameDecoder(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        received += decoder.feed(stream[position : position + step])
        position, turn = position + step, turn + 1
    for number, ((kind, status), flags, length) in enumerate(sent):
        pieces = [frame for frame in received if frame.request_id == number]
        assert b"".join(piece.body for piece in pieces) == bytes([number + 1]) * length
        assert {(piece.kind, piece.status) for piece in pieces} == {(kind, status)}
        *first, last = pieces
        assert all(piece.flags & MORE for piece in first)
        assert last.flags == flags
        if kind == REPLY or status == 500:  # who gets these takes them for whole
            assert isinstance(last.body, bytes)
            assert not first
    assert [f.request_id for f in received] == sorted(f.request_id for f in received)


@pytest.mark.parametrize(
    ("meta_length", "body_length"), [(MAX_META + 1, 0), (0, MAX_BODY_PART + 1), (2**32 - 1, 0)]
)
def test_a_frame_over_the_limits_is_refused_before_it_is_collected(meta_length, body_length):
    with pytest.raises(ProtocolError):
        FrameDecoder().feed(HEAD.pack(INVOKE, 0, 0, 1, 0, meta_length, body_length))


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers()), max_size=5), st.integers(1, 9))
def test_lines_come_out_as_they_went_in_however_the_stream_is_cut(messages, step):
    stream = b"".join(encode_line(message) for message in messages)
    decoder, received = LineDecoder(), []
    for position in range(0, len(stream), step):
        received += decoder.feed(stream[position : position + step])
    assert received == messages


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_object_is_refused(line):
    with pytest.raises(ProtocolError):
        LineDecoder().feed(line)


def test_an_endless_line_is_refused():
    decoder = LineDecoder(limit=100)
    assert decoder.feed(b"x" * 60) == []
    with pytest.raises(ProtocolError):
        decoder.feed(b"x" * 60)


def test_the_meta_cache_gives_what_json_would():
    cache = MetaCache(size=2)
    for _ in range(3):
        for headers in ({"accept": "a"}, {"content-type": "b"}, {"x": "y", "z": "é"}):
            meta = cache.encode(tuple(headers.items()))
            assert json.loads(meta) == headers
            assert cache.decode(meta) == headers


@pytest.mark.parametrize("meta", [b"[]", b"{", b'{"a":1}', b"\xff"])
def test_meta_that_is_no_flat_object_of_strings_is_refused(meta):
    with pytest.raises(ProtocolError):
        decode_meta(meta)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("unix:/run/w0.sock", ("unix", "/run/w0.sock", None)),
        ("tcp:10.0.0.2:4000", ("tcp", "10.0.0.2", 4000)),
        ("http:127.0.0.1:8080", ("http", "127.0.0.1", 8080)),
        ("http:[::1]:8080", ("http", "::1", 8080)),
    ],
)
def test_addresses_are_taken_apart(address, parts):
    assert parse_address(address) == parts


@pytest.mark.parametrize("address", ["", "unix:", "tcp:host", "ftp:a:1", "http::80", "http:h:x"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ProtocolError):
        parse_address(address)
