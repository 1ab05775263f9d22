"""The chunker: the boundaries are part of the format, and meet again when bytes before them change."""

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosfs.store.chunker import (
    AVERAGE_BYTES,
    MAXIMUM_BYTES,
    MINIMUM_BYTES,
    PARAMETERS,
    chunks,
)


def noise(seed: bytes, length: int) -> bytes:
    """The same random-looking bytes on every machine."""
    return hashlib.shake_128(seed).digest(length)


def lines(count: int) -> bytes:
    return b"".join(b"line %d of a text that repeats itself, sum %d\n" % (n, n * n % 997) for n in range(count))


GOLDEN = {
    "noise": (noise(b"golden", 400_000), [15541, 57519, 66403, 28093, 14033, 98237, 40063, 9696, 70415]),
    "text": (
        lines(9000),
        [33851, 20068, 47463, 29049, 9367, 20059, 59447, 29555, 60104, 16408, 43954, 48093, 21396],
    ),
    "zeros": (bytes(300_000), [131072, 131072, 37856]),
    "counter": (
        b"".join(struct.pack("<I", n) for n in range(80_000)),
        [65345, 68615, 31820, 35426, 55587, 63207],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_boundaries(name: str) -> None:
    data, lengths = GOLDEN[name]
    assert [len(chunk) for chunk in chunks(data)] == lengths


def test_golden_parameters() -> None:
    assert PARAMETERS == {
        "algorithm": "fastcdc-2020",
        "minimum": 8192,
        "average": 32768,
        "maximum": 131072,
        "normalization": 1,
        "seed": 0,
    }


@pytest.mark.parametrize("length", [0, 1, 100, MINIMUM_BYTES - 1, MINIMUM_BYTES])
def test_what_is_short_is_one_chunk(length: int) -> None:
    data = noise(b"short", length)
    assert [bytes(chunk) for chunk in chunks(data)] == ([data] if data else [])


@settings(max_examples=60)
@given(seed=st.binary(max_size=8), length=st.integers(0, 400_000), view=st.booleans())
def test_chunks_are_views_that_together_are_the_data(seed: bytes, length: int, view: bool) -> None:
    data = noise(seed, length)
    found = list(chunks(memoryview(data) if view else data))
    assert all(isinstance(chunk, memoryview) for chunk in found)
    assert b"".join(found) == data
    assert all(len(chunk) <= MAXIMUM_BYTES for chunk in found)
    assert all(len(chunk) >= MINIMUM_BYTES for chunk in found[:-1])


def test_the_mean_length_is_what_the_parameters_promise() -> None:
    data = noise(b"mean", 8 << 20)
    mean = len(data) / len(list(chunks(data)))
    assert 0.8 < mean / (AVERAGE_BYTES + MINIMUM_BYTES) < 1.2


@settings(max_examples=20)
@given(seed=st.binary(max_size=8), inserted=st.binary(min_size=1, max_size=100))
def test_boundaries_meet_again_after_an_insertion(seed: bytes, inserted: bytes) -> None:
    data = noise(b"meet" + seed, 1 << 20)
    before = {bytes(chunk) for chunk in chunks(data)}
    after = {bytes(chunk) for chunk in chunks(data[:1000] + inserted + data[1000:])}
    assert len(after - before) <= 4 and len(before) > 10


def test_two_runs_do_not_disturb_each_other() -> None:
    first, second = noise(b"1", 500_000), noise(b"2", 500_000)
    pairs = list(zip(chunks(first), chunks(second), strict=False))
    assert [bytes(one) for one, _ in pairs] == [bytes(one) for one in chunks(first)][: len(pairs)]
    assert [bytes(two) for _, two in pairs] == [bytes(two) for two in chunks(second)][: len(pairs)]
