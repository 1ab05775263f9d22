"""The stored form of a node, and its decoder on whatever bytes there are."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.digests import DIGEST_BYTES
from heliosfs.base.errors import Corruption
from heliosfs.merkle.node import LEVEL_MAX, Node, decode, encode

from .strategies import examples

NAME = b"\x07" * DIGEST_BYTES


def node(level: int, entries: dict[bytes, bytes]) -> Node:
    keys = sorted(entries)
    return Node(level, tuple(keys), tuple(entries[key] for key in keys))


leaves = st.dictionaries(st.binary(max_size=300), st.binary(max_size=600), min_size=1, max_size=40)
children = st.dictionaries(
    st.binary(max_size=300), st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), min_size=1, max_size=40
)
nodes = st.one_of(
    st.builds(node, st.just(0), leaves),
    st.builds(node, st.integers(1, LEVEL_MAX), children),
)


def test_stored_form() -> None:
    data = encode(Node(0, (b"a", b"bc"), (b"", b"xyz")))
    assert data == bytes.fromhex("93 00 92 c40161 c4026263 92 c400 c40378797a")


@examples(120)
@given(nodes)
def test_round_trip(original: Node) -> None:
    data = encode(original)
    copy = decode(data, NAME)
    assert copy == original
    assert encode(copy) == data
    assert isinstance(copy.keys, tuple)
    assert isinstance(copy.values, tuple)


D = b"d" * DIGEST_BYTES


@pytest.mark.parametrize(
    "content",
    [
        (0, [], []),
        (0, [b"a"], []),
        (0, [], [b"v"]),
        (0, [b"a", b"b"], [b"v"]),
        (0, [b"b", b"a"], [b"v", b"w"]),
        (0, [b"a", b"a"], [b"v", b"w"]),
        (-1, [b"a"], [b"v"]),
        (LEVEL_MAX + 1, [b"a"], [D]),
        (1 << 63, [b"a"], [D]),
        (1, [b"a"], [b"short"]),
        (1, [b"a", b"b"], [D, D + b"x"]),
        (1, [b"a"], [b""]),
        (0.0, [b"a"], [b"v"]),
        ("0", [b"a"], [b"v"]),
        (None, [b"a"], [b"v"]),
        (0, ["a"], [b"v"]),
        (0, [b"a"], ["v"]),
        (0, [b"a"], [1]),
        (0, b"a", [b"v"]),
        (0, {b"a": b"v"}, [b"v"]),
        (0, [b"a"]),
        (0, [b"a"], [b"v"], []),
        {"level": 0, "keys": [b"a"], "values": [b"v"]},
        b"bytes",
        7,
        None,
    ],
)
def test_refuses_what_is_no_node(content: object) -> None:
    with pytest.raises(Corruption) as caught:
        decode(msgspec.msgpack.encode(content), NAME)
    assert caught.value.digest == NAME


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93\x00\xdd\xff\xff\xff\xff\xc4",
        b"\x93\x00\x91\xc6\xff\xff\xff\xff\x91",
        b"\x94\x00\x90\x90" + b"\x91" * 100_000,
        b"\x91" * 100_000,
        b"\x81" * 100_000,
    ],
    ids=["nothing", "huge array", "huge bytes", "deep extra field", "deep arrays", "deep maps"],
)
def test_refuses_hostile_bytes(data: bytes) -> None:
    with pytest.raises(Corruption):
        decode(data, NAME)


def must_be_node_or_corruption(data: bytes) -> None:
    try:
        result = decode(data, NAME)
    except Corruption:
        return
    assert 0 <= result.level <= LEVEL_MAX
    assert len(result.keys) == len(result.values) > 0
    assert list(result.keys) == sorted(set(result.keys))
    assert result.level == 0 or all(len(value) == DIGEST_BYTES for value in result.values)


@examples(120)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    must_be_node_or_corruption(data)


@examples(120)
@given(st.binary(max_size=200))
def test_any_bytes_after_a_good_head(data: bytes) -> None:
    must_be_node_or_corruption(b"\x93\x00\x92\xc4\x01a" + data)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@examples(120)
@given(plain | st.tuples(plain, plain, plain))
def test_any_message(content: object) -> None:
    must_be_node_or_corruption(msgspec.msgpack.encode(content))


@examples(120)
@given(nodes, st.data())
def test_mutated_nodes(original: Node, draws: st.DataObject) -> None:
    data = bytearray(encode(original))
    for _ in range(draws.draw(st.integers(1, 4), "mutations")):
        place = draws.draw(st.integers(0, len(data)), "place")
        match draws.draw(st.sampled_from(["flip", "cut", "insert", "remove", "repeat"]), "kind"):
            case "flip" if place < len(data):
                data[place] ^= draws.draw(st.integers(1, 255))
            case "cut":
                del data[place:]
            case "insert":
                data[place:place] = draws.draw(st.binary(max_size=6))
            case "remove":
                del data[place : place + draws.draw(st.integers(1, 6))]
            case _:
                data += data[place:]
    must_be_node_or_corruption(bytes(data))


@examples(120)
@given(nodes, st.data())
def test_every_cut_node_is_refused(original: Node, draws: st.DataObject) -> None:
    data = encode(original)
    with pytest.raises(Corruption):
        decode(data[: draws.draw(st.integers(0, len(data) - 1))], NAME)
