"""Collection: free what no branch, snapshot, open file or undoable operation refers to.

Mark, then sweep, in bounded steps beside live traffic. Invariants:
  1. What is stored after marking began is not swept, whoever refers to it. A seal that is under way then has
     stored nodes to which nothing leads yet, so it begins anew.
  2. A state is marked through its root and the layers above that. What is refered to later was in one of the
     states that were there when marking began, or was stored since; but content that an unlinked file takes along
     leaves its layer, so the unlinked files are marked last, all at once.
  3. A layer that is not reachable when marking begins is gone from then on: nobody can come back to it.
  4. When anything cannot be read while marking, nothing is swept: what it refers to is not known.
"""

import errno
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any

from heliosfs.base.keys import EXTENT, INO_BYTES, OFFSET_BYTES
from heliosfs.base.records import CHUNK, decode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.layer import Layer
from heliosfs.merkle.node import Node
from heliosfs.store import collector
from heliosfs.store.packs import HEADER_BYTES
from heliosfs.volume.registry import Registry

_STEP_NODES = 8
"""Nodes marked in one step: about 0.5 ms, since every extent in a leaf is decoded."""

_STEP_DELTAS = 500
"""Inodes of a layer marked in one step: about 0.5 ms."""

_STEP_ENTRIES = 500

MARKING, SWEEPING, FLUSHING, DONE = "marking", "sweeping", "flushing", "done"

_ROUND_BYTES_MIN = 1 << 20
"""A round that a full disk cut short gives room to the next one, unless it freed less than this."""


class Report:
    """What a collection is doing, and in the end what it found. Sizes in bytes."""

    def __init__(self) -> None:
        self.phase = MARKING
        self.marked_objects = 0
        self.total_objects = 0
        """How many there were when it began."""
        self.dead_objects = 0
        self.dead_bytes = 0
        self.freed_bytes = 0
        self.disk_full = False
        """There was no room to rewrite packs: after the flush there may be, so it should be done again."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "phase": self.phase,
            "marked_objects": self.marked_objects,
            "total_objects": self.total_objects,
            "dead_objects": self.dead_objects,
            "dead_bytes": self.dead_bytes,
            "freed_bytes": self.freed_bytes,
            "disk_full": self.disk_full,
        }


class Rounds:
    """As many collections, each with its flush, as a full disk makes necessary; nearly always one.

    `go_on` before each; `report` says what all of them did together once it has returned False.
    """

    def __init__(self, stored_bytes: Callable[[], int]) -> None:
        self.report = Report()
        self._stored_bytes = stored_bytes
        self._before = stored_bytes()
        self._left = self._before
        self._begun = False

    def go_on(self) -> bool:
        """Whether a round has to follow; freshens the report for it."""
        report = self.report
        left = self._stored_bytes()
        if self._begun and (not report.disk_full or left > self._left - _ROUND_BYTES_MIN):
            report.freed_bytes = max(0, self._before - left)
            report.phase = DONE
            return False
        self._begun, self._left = True, left
        report.phase, report.disk_full = MARKING, False
        return True


class FullDiskAllowed:
    """A context in which what cannot be done on a full disk is left undone."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def collect(
    registry: Registry, report: Report, *, dry_run: bool = False, tight: bool = False
) -> Generator[None, None, Report]:
    """The steps of one collection, which tries harder when space is `tight`. Flushes have to follow, until no object is
    condemned any more: they are what lets the files go.

    Raises `Corruption` when a state cannot be read; then nothing has been removed.
    """
    objects = registry.engine.objects
    report.total_objects = objects.statistics.objects
    objects.protect()
    try:
        registry.sweep()
        live = yield from _mark(registry, report)
        report.phase = SWEEPING
        if dry_run:
            yield from _count(registry, live, report)
        else:
            yield from _sweep(registry, live, report, tight)
    finally:
        objects.end_protection()
    return report


def _sweep(registry: Registry, live: set[bytes], report: Report, tight: bool) -> Generator[None, None, None]:
    objects = registry.engine.objects
    share = collector.LIVE_SHARE_MIN_TIGHT if tight else collector.LIVE_SHARE_MIN
    gone, counts = yield from collector.survey(objects, live.__contains__)
    report.dead_objects += gone.objects
    report.dead_bytes += gone.bytes
    packs: list[int] = []
    for attempt in range(2):
        with FullDiskAllowed():
            packs = packs or collector.sparse(objects, counts, share)
            yield from collector.compact(objects, packs)
            return
        if attempt or not registry.engine.make_room():
            report.disk_full = True
            return


def _count(registry: Registry, live: set[bytes], report: Report) -> Generator[None, None, None]:
    objects = registry.engine.objects
    for seen, (digest, _, location) in enumerate(objects.iterate(), start=1):
        if digest not in live and not objects.is_protected(digest):
            report.dead_objects += 1
            report.dead_bytes += HEADER_BYTES + location.stored_length
        if seen % _STEP_ENTRIES == 0:
            yield


def _mark(registry: Registry, report: Report) -> Generator[None, None, set[bytes]]:
    live: set[bytes] = set()
    for layer in list(registry.layers.values()):
        yield from _mark_layer(registry, layer, live, report)
        yield
    for orphan in registry.engine.orphans:
        for delta in orphan.deltas.values():
            _mark_delta(delta, live)
    report.marked_objects = len(live)
    return live


def _mark_layer(
    registry: Registry, layer: Layer, live: set[bytes], report: Report
) -> Generator[None, None, None]:
    if layer.root is None:
        for seen, delta in enumerate(list(layer.deltas.values()), start=1):
            _mark_delta(delta, live)
            if seen % _STEP_DELTAS == 0:
                yield
    # It may have been sealed between two steps: then it refers to nothing but its root.
    if layer.root:
        for visited, (_, node) in enumerate(registry.engine.tree.visit(layer.root, live), start=1):
            if node.level == 0:
                _mark_leaf(node, live)
            if visited % _STEP_NODES == 0:
                report.marked_objects = len(live)
                yield


def _mark_delta(delta: Delta, live: set[bytes]) -> None:
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
