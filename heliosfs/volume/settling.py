"""What a base's layer is done with goes on to the sealed layer below it, so that memory holds but what is to be done.

What a state says does not change by that: only where it is said.
"""

from collections.abc import Generator

from heliosfs.layers.layer import Layer
from heliosfs.layers.seal import TreeChange, tree_changes
from heliosfs.merkle.tree import Tree

SETTLE_INODES = 2000
"""Settled at a time: the more, the fewer nodes of the tree are made that the next time makes anew."""

_STEP_INODES = 50
"""Gathered in one step: about 0.5 ms."""


class Settling:
    """Gathers what is done, and moves it."""

    def __init__(self, tree: Tree, layer: Layer) -> None:
        self._tree = tree
        self._layer = layer
        self._done: list[int] = []
        self._steps: Generator[None, None, None] | None = None
        self.paused = False
        """While a collection marks: it could miss what moves."""

    def add(self, inos: list[int]) -> None:
        """Nothing will change of what the layer says of these inodes."""
        self._done += inos

    def due(self, idle: bool) -> bool:
        """Whether to go on. When `idle`, little is reason enough."""
        below = self._layer.below
        if self.paused or below is None or below.root is None:
            return False
        return self._steps is not None or len(self._done) >= SETTLE_INODES or (idle and bool(self._done))

    def pause(self) -> None:
        """Begin anew later: the nodes that were stored are no state's yet."""
        self.paused = True
        self._steps = None

    def step(self) -> None:
        """Do one bounded piece."""
        if self._steps is None:
            self._steps = self._run()
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
        except BaseException:
            self._steps = None
            raise

    def _run(self) -> Generator[None, None, None]:
        layer, below = self._layer, self._layer.below
        assert below is not None and below.root is not None
        count = min(len(self._done), 2 * SETTLE_INODES)
        inos = sorted(self._done[:count])
        changes: list[TreeChange] = []
        for number, ino in enumerate(inos, start=1):
            changes.extend(tree_changes(self._tree, below.root, ino, layer.deltas[ino]))
            if number % _STEP_INODES == 0:
                yield
        root = yield from self._tree.edit(below.root, changes)
        del self._done[:count]
        layer.settle(inos, root, len(changes) + count)
