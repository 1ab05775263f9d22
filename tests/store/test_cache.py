"""The cache: bounded, and the longest unused goes first."""

from hypothesis import given
from hypothesis import strategies as st

from heliosfs.store.cache import ENTRY_BYTES, ByteCache


def test_the_longest_unused_goes_first() -> None:
    cache: ByteCache[str, bytes] = ByteCache(3 * (ENTRY_BYTES + 10))
    for key in "abc":
        cache.put(key, bytes(10))
    assert cache.get("a") is not None
    cache.put("d", bytes(10))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]


def test_what_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    cache: ByteCache[str, bytes] = ByteCache(1000)
    cache.put("a", b"x")
    cache.put("large", bytes(1000))
    assert cache.get("large") is None and cache.get("a") == b"x"


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "drop", "get"]), st.integers(0, 5), st.binary(max_size=600)),
        max_size=50,
    )
)
def test_the_count_of_bytes_is_that_of_the_entries(steps: list[tuple[str, int, bytes]]) -> None:
    cache: ByteCache[int, bytes] = ByteCache(2000)
    model: dict[int, bytes] = {}
    for what, key, data in steps:
        if what == "put":
            cache.put(key, data)
            model[key] = data
        elif what == "drop":
            cache.drop(key)
            model.pop(key, None)
        elif (found := cache.get(key)) is not None:
            assert found == model[key]
    kept = [held for key in range(6) if (held := cache.get(key)) is not None]
    assert cache.held == sum(len(data) + ENTRY_BYTES for data in kept) <= 2000
    assert len(cache) == len(kept)
