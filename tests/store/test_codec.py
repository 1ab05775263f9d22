"""The envelope: what was encoded comes back, and nothing else ever does."""

import os

from hypothesis import given
from hypothesis import strategies as st

from heliosfs.store.codec import LZ4, RAW, decode, encode


@given(data=st.binary(max_size=5000), repeat=st.integers(1, 8))
def test_what_was_encoded_comes_back(data: bytes, repeat: int) -> None:
    data *= repeat
    codec, body = encode(memoryview(data))
    assert decode(codec, bytes(body), len(data)) == data
    assert len(body) <= len(data)


def test_a_body_that_saves_too_little_stays_raw() -> None:
    noise = os.urandom(16 << 10)
    assert encode(noise) == (RAW, noise)
    assert encode(b"") == (RAW, b"")
    assert encode(noise[:15_500] + bytes(884))[0] == RAW
    assert encode(noise[:14_000] + bytes(2_384))[0] == LZ4


@given(body=st.binary(max_size=200), raw_length=st.integers(0, 10_000), codec=st.integers(0, 255))
def test_any_bytes_decode_to_the_length_asked_for_or_to_nothing(body: bytes, raw_length: int, codec: int) -> None:
    data = decode(codec, body, raw_length)
    assert data is None or len(data) == raw_length


def test_another_length_is_refused() -> None:
    data = b"compressible " * 100
    codec, body = encode(data)
    assert codec == LZ4
    for length in (0, 1, len(data) - 1, len(data) + 1):
        assert decode(codec, bytes(body), length) is None
    assert decode(RAW, data, len(data) - 1) is None
    assert decode(7, data, len(data)) is None
