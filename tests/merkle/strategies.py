"""Maps and edits for hypothesis.

HELIOSFS_TEST_EXAMPLES=N makes N random examples a test instead of the fixed ones.
"""

import os
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_EXAMPLES = int(os.environ.get("HELIOSFS_TEST_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """Settings for a test: so many examples, the same ones each time, however slow the machine is."""
    return settings(
        max_examples=_EXAMPLES or count,
        derandomize=not _EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )


keys = st.binary(max_size=300) | st.binary(max_size=3)
values = st.binary(max_size=80) | st.sampled_from([b"", b"v" * 5000, b"huge" * 16384])
maps = st.dictionaries(keys, values, max_size=60)
edits = st.dictionaries(keys, st.none() | values, max_size=30)


@st.composite
def large_maps(draw: st.DrawFn, most: int = 1500) -> dict[bytes, bytes]:
    """Maps of many entries in a few runs, each run with keys and values of its own shape."""
    entries: dict[bytes, bytes] = {}
    for _ in range(draw(st.integers(0, 3))):
        source = random.Random(draw(st.integers(0, 1 << 16)))
        prefix = draw(st.binary(max_size=5))
        key_bytes = draw(st.sampled_from([2, 8, 250]))
        value_bytes = draw(st.sampled_from([0, 6, 60, 400]))
        for _ in range(draw(st.integers(0, most))):
            entries[prefix + source.randbytes(key_bytes)] = source.randbytes(value_bytes)
    return entries


@st.composite
def edits_of(draw: st.DrawFn, entries: dict[bytes, bytes]) -> dict[bytes, bytes | None]:
    """Changes near, in, before and behind the entries of a map: single ones, ranges, everything."""
    present = sorted(entries)
    changes: dict[bytes, bytes | None] = {}
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(present)))
        count = draw(st.sampled_from([1, 2, 20, len(present)]))
        chosen = present[start : start + count][:: draw(st.sampled_from([1, 1, 2, 7]))]
        match draw(st.sampled_from(["remove", "replace", "same", "resize", "follow", "crowd"])):
            case "remove":
                changes.update(dict.fromkeys(chosen))
            case "replace":
                changes.update({key: bytes(len(entries[key])) for key in chosen})
            case "same":
                changes.update({key: entries[key] for key in chosen})
            case "resize":
                changes.update({key: entries[key] + b"more" for key in chosen})
            case "follow":
                changes.update({key + b"\0": b"new" for key in chosen})
            case _:
                # More than an edit merges at a time, all between two keys or before the first one.
                place = draw(st.sampled_from([b"", *chosen[:1]]))
                value = draw(st.sampled_from([None, b"", b"crowd" * 9]))
                changes.update({place + b"\0%03d" % number: value for number in range(150)})
    changes.update(draw(edits))
    return changes


def changed(entries: dict[bytes, bytes], changes: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    """The map that the changes make of the entries."""
    merged = {**entries, **changes}
    return {key: value for key, value in merged.items() if value is not None}
