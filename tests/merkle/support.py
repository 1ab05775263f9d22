"""A node store in memory, and shorthands."""

from collections.abc import Generator, Iterable, Mapping

from heliosfs.base.digests import digest
from heliosfs.base.errors import Corruption
from heliosfs.merkle import EMPTY, NODE, Change, Node, Tree, splitter
from heliosfs.merkle.node import encode


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


def check_shape(tree: Tree, root: bytes) -> None:
    """Every node of the tree is cut where the splitter says, and the top is the lowest possible."""
    levels: dict[int, list[Node]] = {}
    for name, node in tree.visit(root, SeenNothing()):
        assert digest(encode(node)) == name
        levels.setdefault(node.level, []).append(node)
    assert sorted(levels) == list(range(len(levels)))
    if root:
        assert len(levels[len(levels) - 1]) == 1
    for level, nodes in levels.items():
        assert len(nodes) > 1 or level == len(levels) - 1
        nodes.sort(key=lambda node: node.keys)
        for node in nodes:
            ends, rest = splitter.boundaries(level, node.keys, node.values, 0)
            if node is nodes[-1] and rest:
                assert ends == []
            else:
                assert ends == [len(node.keys)]


class SeenNothing(set[bytes]):
    """A set that forgets, so that every occurrence of a node is visited."""

    def add(self, _: bytes) -> None:
        pass
