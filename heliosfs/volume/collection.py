"""Collection: free what no branch, snapshot, open file or undoable operation refers to.

Mark, then sweep, in bounded steps beside live traffic. Invariants:
  1. What is stored after marking began is not swept, whoever refers to it.
  2. A state is marked through its root and the layers above that; layers that come up meanwhile refer only to
     what was marked or stored since.
  3. When anything cannot be read while marking, nothing is swept: what it refers to is not known.
"""

from collections.abc import Generator

from heliosfs.base.keys import EXTENT, INO_BYTES, OFFSET_BYTES
from heliosfs.base.records import CHUNK, decode_extent
from heliosfs.layers.layer import Layer
from heliosfs.merkle.node import Node
from heliosfs.volume.registry import Registry

_STEP_NODES = 8
"""Nodes marked in one step: about 0.5 ms, since every extent in a leaf is decoded."""


class Report:
    """What a collection found. Sizes in bytes."""

    def __init__(self) -> None:
        self.marked_objects = 0
        self.dead_objects = 0
        self.dead_bytes = 0
        self.stored_before = 0
        self.stored_after = 0


def collect(registry: Registry, *, dry_run: bool = False) -> Generator[None, None, Report]:
    """The steps of one collection. A flush has to follow: it is what lets the files go.

    Raises `Corruption` when a state cannot be read; then nothing has been removed.
    """
    objects = registry.engine.objects
    report = Report()
    report.stored_before = objects.statistics.stored_bytes
    objects.protect()
    try:
        live = yield from _mark(registry)
    except BaseException:
        objects.end_protection()
        raise
    report.marked_objects = len(live)
    for seen, (digest, _, location) in enumerate(objects.iterate(), start=1):
        if digest not in live and not objects.is_protected(digest):
            report.dead_objects += 1
            report.dead_bytes += location.stored_length
        if seen % 500 == 0:
            yield
    if dry_run:
        objects.end_protection()
    else:
        yield from objects.collect(live.__contains__)
    report.stored_after = objects.statistics.stored_bytes
    return report


def _mark(registry: Registry) -> Generator[None, None, set[bytes]]:
    live: set[bytes] = set()
    reachable = registry.reachable()
    layers = [layer for layer_id, layer in registry.layers.items() if layer_id in reachable]
    for layer in (*layers, *registry.engine.orphans):
        _mark_deltas(layer, live)
        yield
        if layer.root:
            for visited, (_, node) in enumerate(registry.engine.tree.visit(layer.root, live), start=1):
                if node.level == 0:
                    _mark_leaf(node, live)
                if visited % _STEP_NODES == 0:
                    yield
    return live


def _mark_deltas(layer: Layer, live: set[bytes]) -> None:
    for delta in layer.deltas.values():
        if delta.extents is not None:
            live.update(
                source for _, kind, source, _ in delta.extents.pieces if kind == CHUNK and isinstance(source, bytes)
            )


def _mark_leaf(node: Node, live: set[bytes]) -> None:
    for record_key, value in zip(node.keys, node.values, strict=True):
        if record_key[INO_BYTES] == EXTENT:
            start = int.from_bytes(record_key[-OFFSET_BYTES:], "big")
            _, _, kind, source, _ = decode_extent(start, value)
            if kind == CHUNK and isinstance(source, bytes):
                live.add(source)
