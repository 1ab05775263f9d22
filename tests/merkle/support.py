"""A node store in memory, and shorthands."""

from collections.abc import Generator, Iterable, Mapping

from heliosfs.base.digests import digest
from heliosfs.base.errors import Corruption
from heliosfs.merkle import EMPTY, NODE, Change, Tree


class MemoryStore:
    """Objects in a dict. Counts what is asked of it."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.gets = 0
        self.puts = 0

    def get(self, name: bytes, /) -> bytes:
        self.gets += 1
        if name not in self.objects:
            raise Corruption("node", "the store: it is missing", name)
        return self.objects[name]

    def put(self, data: bytes, kind: int, /) -> bytes:
        assert kind == NODE
        self.puts += 1
        name = digest(data)
        self.objects[name] = data
        return name


def new_tree(cache_bytes: int = 64 << 20) -> tuple[Tree, MemoryStore]:
    store = MemoryStore()
    return Tree(store, cache_bytes), store


def finish(steps: Generator[None, None, bytes]) -> bytes:
    """Carry an edit to its end; the root."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        root = stop.value
        assert isinstance(root, bytes)
        return root


def apply(tree: Tree, root: bytes, changes: Mapping[bytes, bytes | None] | Iterable[Change]) -> bytes:
    return finish(tree.edit(root, sorted(dict(changes).items())))


def build(tree: Tree, entries: Mapping[bytes, bytes]) -> bytes:
    return apply(tree, EMPTY, entries)
