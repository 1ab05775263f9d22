"""Roots of unsealed states, made in memory alone: for a check of many states that differ little.

What is read comes from the store; what is made is kept here and forgotten with it. Nothing reaches the disk.
"""

from collections.abc import Mapping
from typing import Protocol

from heliosfs.base.digests import digest
from heliosfs.layers.layer import Layer
from heliosfs.layers.seal import tree_changes
from heliosfs.merkle import EMPTY
from heliosfs.merkle.tree import Tree

NODE_CACHE_BYTES = 64 << 20


class Reading(Protocol):
    """A store of objects, as far as it is read."""

    def get(self, digest: bytes) -> bytes: ...


class _Nodes:
    """The nodes of a store, and those that were made since."""

    def __init__(self, below: Reading) -> None:
        self._below = below
        self.made: dict[bytes, bytes] = {}

    def get(self, name: bytes) -> bytes:
        made = self.made.get(name)
        return self._below.get(name) if made is None else made

    def put(self, data: bytes, kind: int) -> bytes:
        name = digest(data)
        self.made[name] = bytes(data)
        return name


class ScratchRoots:
    """Roots by layer. `tree` reads them, and those of the store."""

    def __init__(self, objects: Reading, layers: Mapping[int, Layer]) -> None:
        self.tree = Tree(_Nodes(objects), NODE_CACHE_BYTES)
        self._layers = layers
        self._roots: dict[int, bytes] = {}

    def root(self, layer: Layer) -> bytes | None:
        """What sealing a state would give; None while some of its bytes are uncut. Raises what damage raises."""
        chain: list[Layer] = []
        at: Layer | None = layer
        while at is not None and at.root is None and at.id not in self._roots:
            if at.uncut or at.based or len(chain) > len(self._layers):
                return None
            chain.append(at)
            at = at.below
        root = EMPTY if at is None else self._roots[at.id] if at.root is None else at.root
        for each in reversed(chain):
            changes = [
                change
                for ino in sorted(each.deltas)
                for change in tree_changes(self.tree, root, ino, each.deltas[ino])
            ]
            steps = self.tree.edit(root, changes)
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    root = end.value
                    break
            self._roots[each.id] = root
        return root
