"""Where nodes end."""

import random

from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.digests import DIGEST_BYTES
from heliosfs.merkle.splitter import ENTRY_BYTES, NODE_BYTES_MAX, NODE_BYTES_MIN, boundaries

from .strategies import examples

entry_lists = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=3000)), max_size=120)


def split(level: int, entries: list[tuple[bytes, bytes]], size: int = 0) -> tuple[list[int], int]:
    return boundaries(level, [key for key, _ in entries], [value for _, value in entries], size)


def sizes(entries: list[tuple[bytes, bytes]]) -> int:
    return sum(len(key) + len(value) + ENTRY_BYTES for key, value in entries)


@examples(150)
@given(st.integers(0, 5), entry_lists, st.integers(0, 120))
def test_the_same_in_one_go_or_in_two(level: int, entries: list[tuple[bytes, bytes]], place: int) -> None:
    place = min(place, len(entries))
    whole, rest = split(level, entries)
    first, size = split(level, entries[:place])
    second, size = split(level, entries[place:], size)
    assert first + [end + place for end in second] == whole
    assert size == rest


@examples(150)
@given(st.integers(0, 5), entry_lists)
def test_starts_anew_after_each_boundary(level: int, entries: list[tuple[bytes, bytes]]) -> None:
    ends, size = split(level, entries)
    for number, end in enumerate(ends):
        later, rest = split(level, entries[end:])
        assert [end + place for place in later] == ends[number + 1 :]
        assert rest == size


@examples(150)
@given(st.integers(0, 5), entry_lists)
def test_bounds_of_nodes(level: int, entries: list[tuple[bytes, bytes]]) -> None:
    ends, size = split(level, entries)
    start = 0
    for end in ends:
        assert sizes(entries[start:end]) > NODE_BYTES_MIN
        assert sizes(entries[start : end - 1]) < NODE_BYTES_MAX or (level and end - start == 2)
        assert level == 0 or end - start >= 2
        start = end
    rest = entries[start:]
    assert size == sizes(rest)
    assert size < NODE_BYTES_MAX or (level and len(rest) == 1)


@examples(150)
@given(st.integers(0, 5), entry_lists, st.data())
def test_values_of_equal_length_move_nothing(
    level: int, entries: list[tuple[bytes, bytes]], draws: st.DataObject
) -> None:
    filler = draws.draw(st.binary(min_size=1, max_size=1))
    assert split(level, entries) == split(level, [(key, filler * len(value)) for key, value in entries])


def test_mean_size_and_spread() -> None:
    source = random.Random(4)
    entries = [(source.randbytes(12), source.randbytes(44)) for _ in range(40_000)]
    ends, _ = split(0, entries)
    nodes = [60 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    assert 3800 < sum(nodes) / len(nodes) < 4400
    assert max(nodes) < NODE_BYTES_MAX - 60


def test_levels_are_cut_independently() -> None:
    source = random.Random(5)
    entries = [(source.randbytes(12), source.randbytes(DIGEST_BYTES)) for _ in range(20_000)]
    first, second = set(split(1, entries)[0]), set(split(2, entries)[0])
    # Two independent choices of one end in about 85 entries.
    assert len(first & second) < len(first) / 20
