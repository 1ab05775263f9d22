"""Work that no request waits for: cutting written bytes, freezing large layers, sealing frozen ones.

Invariants:
  1. A step is bounded (about 1 ms) and leaves everything consistent; any request may run between two steps.
  2. Nothing here changes what one reads.
  3. What cannot be cut because it is damaged is remembered, and its layer is left unsealed, as is one above a tree
     that is damaged: nothing is lost by that but speed, and everything else goes on.
"""

import logging
from collections.abc import Generator

from heliosfs.base.errors import Corruption
from heliosfs.base.limits import LAYER_RECORDS_MAX, UNCUT_BYTES_MAX, UNSEALED_LAYERS_MAX, UNSEALED_RECORDS_MAX
from heliosfs.layers.layer import Layer
from heliosfs.layers.seal import seal
from heliosfs.view.cutter import cut
from heliosfs.volume.branch import Branch
from heliosfs.volume.registry import Registry
from heliosfs.volume.transaction import Transaction

SCAN_BYTES = 1 << 20
"""How much is journalled between two looks at all branches: with a thousand of them a look takes 0.1 ms."""

_log = logging.getLogger(__name__)


class Background:
    """The steps, in a fixed order of urgency."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._sealing: tuple[Layer, Generator[None, None, bytes]] | None = None
        self.damaged: set[tuple[int, int]] = set()
        """(layer id, inode number) of written bytes that do not check."""
        self._unsealable: set[int] = set()
        """Layers that cannot be sealed, since the tree below them is damaged."""
        self._scanned = 0
        """The head of the journal when the branches were last looked through for large layers."""
        self._searched = 0
        """The same for written bytes."""
        self._waiting = 0
        """Records that waited to be sealed when they were last counted, and what tells that this is long ago."""
        self._counted = (-1, 0, 0)
        self.cuts = 0
        self.seals = 0

    def dirty(self) -> bool:
        """Whether `step` has anything to do."""
        return (
            bool(self._registry.engine.closed)
            or self._sealing is not None
            or self._oversized() is not None
            or self._sealable() is not None
            or self._backlog() is not None
        )

    def step(self) -> None:
        """Do one piece of work. OSError when the store is full; nothing is lost then."""
        closed = self._registry.engine.closed
        oversized = self._oversized()
        if oversized is not None:
            self._split(oversized)
        elif closed and not self._crowded():
            layer, ino = closed[0]
            if not self._cut(layer, ino):
                closed.popleft()
        elif self._sealing is not None:
            self._seal_on()
        else:
            waiting = self._sealable() or self._backlog()
            if waiting is not None:
                self._prepare(waiting)

    def finish(self) -> None:
        """Do all that there is, open files included."""
        for layer in list(self._registry.layers.values()):
            self._registry.engine.closed.extend((layer, ino) for ino in layer.uncut)
        while self.dirty():
            self.step()

    def pressure(self) -> float:
        """How large the backlog is, as a share of what it may be before requests have to wait for it."""
        return max(self._unsealed(), self._registry.engine.journal.size() / UNCUT_BYTES_MAX)

    def _unsealed(self) -> float:
        """What waits to be sealed, likewise."""
        layers = len(self._registry.unsealed) / UNSEALED_LAYERS_MAX
        return max(layers, self._unsealed_records() / UNSEALED_RECORDS_MAX)

    def _unsealed_records(self) -> int:
        """As of the last look: with thousands of snapshots one takes 0.2 ms, as long as several requests."""
        unsealed, head = self._registry.unsealed, self._registry.engine.journal.head
        seals, layers, counted = self._counted
        if seals != self.seals or len(unsealed) < layers or not 0 <= head - counted < SCAN_BYTES:
            self._counted = self.seals, len(unsealed), head
            self._waiting = sum(layer.records for layer in unsealed.values())
        return self._waiting

    def _crowded(self) -> bool:
        """Whether so much waits to be sealed that closed files have to wait: new ones come faster than they are cut,
        and nothing would ever be sealed."""
        return self._sealable() is not None and self._unsealed() > 1

    def _prepare(self, layer: Layer) -> None:
        """Cut a piece of a layer, or begin to seal it when all of it is cut."""
        if layer.uncut:
            self._cut(layer, self._first_uncut(layer))
        else:
            self._sealing = (layer, seal(self._registry.engine.tree, layer))

    def freeze_all(self) -> list[int]:
        """Let every branch go on in a new layer; the layers that are to be sealed now."""
        for branch in list(self._registry.branches.values()):
            if not branch.view.top.empty:
                self._split(branch)
        return list(self._registry.unsealed)

    def seal_step(self) -> bool:
        """A piece of the way to sealing the oldest layer that is not; False when there is none that can be."""
        if self._sealing is not None:
            self._seal_on()
            return True
        layer = self._sealable()
        if layer is not None:
            self._prepare(layer)
        return layer is not None

    def cut_step(self) -> bool:
        """Cut a piece of what was written, closed files first; False when nothing is left that can be cut."""
        closed = self._registry.engine.closed
        while closed:
            cuts = self.cuts
            if not self._cut(*closed[0]):
                closed.popleft()
            if self.cuts > cuts:
                return True
        for layer in self._registry.layers.values():
            ino = self._first_uncut(layer)
            if ino:
                self._cut(layer, ino)
                return True
        return False

    def abandon_seal(self) -> None:
        """Begin the seal that is under way anew: the nodes that it has stored are no state's yet."""
        self._sealing = None

    def _oversized(self) -> Branch | None:
        """A branch whose top layer is too large."""
        head = self._registry.engine.journal.head
        if 0 <= head - self._scanned < SCAN_BYTES:
            return None
        for branch in self._registry.branches.values():
            if branch.view.top.records > LAYER_RECORDS_MAX:
                return branch
        self._scanned = head
        return None

    def _sealable(self) -> Layer | None:
        for layer in self._registry.unsealed.values():
            if (layer.below is None or layer.below.root is not None) and not layer.based and layer.lister is None:
                if self._first_uncut(layer) or not (layer.uncut or layer.id in self._unsealable):
                    return layer
        if self._registry.engine.base is not None:
            # No layer is sealed before the base is; what was written into them is cut all the same.
            return next((layer for layer in self._registry.unsealed.values() if self._first_uncut(layer)), None)
        return None

    def _backlog(self) -> Layer | None:
        """A mutable layer to cut because too much lies in the journal."""
        journal = self._registry.engine.journal
        if journal.size() < UNCUT_BYTES_MAX or 0 <= journal.head - self._searched < SCAN_BYTES:
            return None
        for branch in self._registry.branches.values():
            if self._first_uncut(branch.view.top):
                return branch.view.top
        self._searched = journal.head
        return None

    def _first_uncut(self, layer: Layer) -> int:
        """An inode of a layer that can be cut, or 0."""
        return next((ino for ino in layer.uncut if (layer.id, ino) not in self.damaged), 0)

    def _cut(self, layer: Layer, ino: int) -> bool:
        """Cut a piece; whether more of the file is left that can be cut."""
        if layer.root is not None or ino not in layer.uncut or (layer.id, ino) in self.damaged:
            return False
        if self._registry.layers.get(layer.id) is not layer:
            return False  # swept: the journal need not have its bytes any more
        self.cuts += 1
        try:
            return cut(self._registry.engine, layer, ino)
        except Corruption as damage:
            _log.error("what was written to inode %d cannot be read back: %s", ino, damage)
            self.damaged.add((layer.id, ino))
            return False

    def _split(self, branch: Branch) -> None:
        """Let a branch go on in a new layer, so that the one it has can be sealed."""
        transaction = Transaction(self._registry)
        transaction.freeze(branch)
        transaction.commit(freeing=True)

    def _seal_on(self) -> None:
        assert self._sealing is not None
        layer, steps = self._sealing
        try:
            next(steps)
        except StopIteration as end:
            self._sealing = None
            layer.seal(end.value)
            self._registry.unsealed.pop(layer.id, None)
            self._registry.sweep_due = True
            self.seals += 1
            closed = self._registry.engine.closed
            while closed and closed[0][0].root is not None:
                closed.popleft()
        except BaseException as error:
            self._sealing = None
            if isinstance(error, Corruption):
                self._unsealable.add(layer.id)
            raise
