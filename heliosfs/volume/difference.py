"""Which inodes differ between two states, in time proportional to the difference.

Two states that share a layer differ at most in what the layers above it touch; two that share none differ in
what their layers touch and where their Merkle trees differ, which skips equal subtrees.
"""

from heliosfs.base.keys import split
from heliosfs.base.steps import Steps, finish
from heliosfs.layers.delta import is_unread
from heliosfs.layers.layer import Layer
from heliosfs.merkle import EMPTY, Tree

_STEP_KEYS = 500
"""Keys that differ in one step: about 1 ms."""


def touched_inodes(tree: Tree, a: Layer, b: Layer) -> set[int]:
    """The numbers of all inodes in which two states can differ: a superset, of the size of the changes."""
    return finish(touched_in_steps(tree, a, b))


def touched_in_steps(tree: Tree, a: Layer, b: Layer) -> Steps[set[int]]:
    """The same in steps. Neither state may change meanwhile; their layers may be sealed."""
    if a is b:
        return set()
    if _chain(a)[-1] is not _chain(b)[-1]:
        for layer in (*_chain(a), *_chain(b)):
            if layer.lister is not None:
                yield from _list_all(layer)
    # From here to the roots nothing may be sealed.
    above_a, above_b = _chain(a), _chain(b)
    position = {id(layer): index for index, layer in enumerate(above_a)}
    found: set[int] = set()
    for at in above_b:
        if id(at) in position:
            for layer in above_a[: position[id(at)]]:
                found.update(layer.deltas)
            return found
        found.update(at.deltas)
    for layer in above_a:
        found.update(layer.deltas)
    root_a, root_b = above_a[-1].root or EMPTY, above_b[-1].root or EMPTY
    for count, (record_key, _, _) in enumerate(tree.diff(root_a, root_b), start=1):
        found.add(split(record_key)[0])
        if count % _STEP_KEYS == 0:
            yield
    return found


def _list_all(layer: Layer) -> Steps[None]:
    """Read all directories of a base: what they hold differs from a state without it."""
    assert layer.lister is not None
    while pending := [ino for ino in layer.based if is_unread(layer.deltas[ino])]:
        for ino in pending:
            layer.lister(ino)
            yield


def _chain(layer: Layer) -> list[Layer]:
    found = [layer]
    while layer.below is not None:
        layer = layer.below
        found.append(layer)
    return found
