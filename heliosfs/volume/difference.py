"""Which inodes differ between two states, in time proportional to the difference.

Two states that share a layer differ at most in what the layers above it touch; two that share none differ in
what their layers touch and where their Merkle trees differ, which skips equal subtrees.
"""

from heliosfs.base.keys import split
from heliosfs.layers.delta import is_unread
from heliosfs.layers.layer import Layer
from heliosfs.merkle import EMPTY, Tree


def touched_inodes(tree: Tree, a: Layer, b: Layer) -> set[int]:
    """The numbers of all inodes in which two states can differ: a superset, of the size of the changes."""
    if a is b:
        return set()
    above_a = _chain(a)
    position = {id(layer): index for index, layer in enumerate(above_a)}
    found: set[int] = set()
    at: Layer | None = b
    above_b: list[Layer] = []
    while at is not None:
        if id(at) in position:
            for layer in above_a[: position[id(at)]]:
                found.update(layer.deltas)
            return found
        found.update(at.deltas)
        above_b.append(at)
        at = at.below
    for layer in above_a:
        found.update(layer.deltas)
    for layer in (*above_a, *above_b):
        if layer.lister is not None:
            found.update(_listed(layer))
    root_a, root_b = above_a[-1].root or EMPTY, above_b[-1].root or EMPTY
    found.update(split(record_key)[0] for record_key, _, _ in tree.diff(root_a, root_b))
    return found


def _listed(layer: Layer) -> set[int]:
    """All inodes of a base, whose directories have to be read for that."""
    assert layer.lister is not None
    while pending := [ino for ino in layer.based if is_unread(layer.deltas[ino])]:
        for ino in pending:
            layer.lister(ino)
    return set(layer.deltas)


def _chain(layer: Layer) -> list[Layer]:
    found = [layer]
    while layer.below is not None:
        layer = layer.below
        found.append(layer)
    return found
