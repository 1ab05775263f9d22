"""The sizes of a lineage against a count of every piece in every state."""

import random
from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

from heliosfs.base.records import HOLE
from heliosfs.volume.branch import Branch
from heliosfs.volume.lineage import lineage
from heliosfs.volume.reader import Reader
from heliosfs.volume.volume import Volume
from tests.volume.trees import CALLER, put


def run(steps: Generator[None, None, dict[str, Any]]) -> dict[str, Any]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            return found


def settled(volume: Volume) -> None:
    while volume.dirty():
        volume.step()


def pieces(volume: Volume, source: Any) -> dict[tuple[int, object], int]:
    """All pieces of a state with their stored lengths."""
    layer = source.view.top if isinstance(source, Branch) else source.state
    reader = Reader(volume.engine, layer)
    found = {}
    for ino in range(1, volume.engine.next_ino):
        record = reader.record(ino)
        for start, end, kind, data, _ in reader.extents(ino, 0, record.size) if record else []:
            if kind != HOLE:
                is_chunk = isinstance(data, bytes) and len(data) == 32 and kind == 2
                length = volume.engine.objects.stored_length(data) if is_chunk else end - start  # type: ignore[arg-type]
                found[kind, data] = len(data) if kind == 3 else length  # type: ignore[arg-type]
    return found


def expected(volume: Volume, sources: Iterable[Any]) -> dict[bytes, tuple[int, int]]:
    held = {source.name: pieces(volume, source) for source in sources}
    states = Counter(piece for each in held.values() for piece in each)
    own = {name: sum(length for piece, length in each.items() if states[piece] == 1) for name, each in held.items()}
    return {name: (own[name], sum(each.values()) - own[name]) for name, each in held.items()}


def flat(node: dict[str, Any]) -> dict[bytes, tuple[int, int]]:
    found = {node["name"].encode(): (node["own_bytes"], node["shared_bytes"])}
    for each in (*node["snapshots"], *node["branches"]):
        found.update(flat({"snapshots": [], "branches": [], **each}))
    return found


def test_sizes_are_those_of_a_full_count(volume: Volume) -> None:
    chance = random.Random(1)
    branches = [volume.main]
    sources: list[Any] = [volume.main]
    for number in range(60):
        branch = chance.choice(branches)
        act = chance.random()
        if act < 0.2:
            sources.append(volume.snapshot(branch, b"s%d" % number, CALLER))
        elif act < 0.3:
            branches.append(volume.fork(branch, b"b%d" % number, CALLER))
            sources.append(branches[-1])
        else:
            name = b"f%d" % chance.randrange(12)
            if branch.view.lookup(branch.view.root, name) is None:
                branch.view.make(branch.view.root, name, 0o100644, CALLER)
            put(branch.view, name, chance.randbytes(chance.choice((100, 600, 40_000))) * chance.choice((1, 2)))
        if act > 0.95:
            settled(volume)
    assert flat(run(lineage(volume.registry, volume.main))) == expected(volume, sources)
    settled(volume)
    assert flat(run(lineage(volume.registry, volume.main))) == expected(volume, sources)


def test_branches_name_the_snapshot_that_they_come_from(volume: Volume) -> None:
    put(volume.main.view, b"f", b"x" * 1000)
    snapshot = volume.snapshot(volume.main, b"s", CALLER, message="why")
    put(volume.main.view, b"f", b"y" * 1000)
    volume.fork(snapshot, b"old", CALLER)
    volume.fork(volume.main, b"new", CALLER)
    found = run(lineage(volume.registry, volume.main))
    assert [each["from"] for each in found["branches"]] == ["s", None]
    assert [each["message"] for each in found["snapshots"]] == ["why"]
    assert run(lineage(volume.registry, volume.main.children[b"old"]))["snapshots"] == []
