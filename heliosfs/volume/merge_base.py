"""Where a merge begins: the newest state that both sides contain.

After merges crosswise there are several, none of which contains the others. With any of them alone a change that came
by another one, and that a side has taken back since, would look like a new one of the other side, and come again. So
they are merged themselves, and that is the base. Where they conflict it has what their own base has: each side has
settled that, and where they did so differently it is a conflict again.
"""

from contextlib import ExitStack, suppress
from typing import Final

from heliosfs.base.errors import Refusal
from heliosfs.base.steps import Steps
from heliosfs.layers.layer import Layer
from heliosfs.view.view import View
from heliosfs.volume.ancestry import Contained, common_states, united
from heliosfs.volume.conflicts import Taker
from heliosfs.volume.reader import Reader
from heliosfs.volume.registry import Registry
from heliosfs.volume.three_way import ThreeWay
from heliosfs.volume.transaction import Transaction

_DEPTH_MAX: Final = 4
"""How many bases of bases are merged; further down the newest state has to do."""


class MergeBase:
    """Finds a base. What it makes is kept until `held` is closed."""

    def __init__(self, registry: Registry, number: int, held: ExitStack) -> None:
        self._registry = registry
        self._number = number
        """Of the view that the merge is for."""
        self._held = held

    def find(self, left: Contained, right: Contained, depth: int = 0) -> Steps[Layer | None]:
        """The base of two states, by what they contain, in steps; None when they have nothing in common."""
        states = common_states(self._registry, left, right)
        if not states:
            return None
        base, inside = states[0]
        self._held.enter_context(self._registry.holding(*(layer for layer, _ in states)))
        for layer, contained in states[1:] if depth < _DEPTH_MAX else []:
            below = yield from self.find(inside, contained, depth + 1)
            base = yield from self._merged(below or Layer(0), base, layer)
            inside = united(inside, contained)
        return base

    def _merged(self, below: Layer, first: Layer, second: Layer) -> Steps[Layer]:
        registry = self._registry
        transaction = Transaction(registry)
        made = transaction.new_layer(first.id)
        transaction.commit()
        layer = registry.layers[made]
        view = View(registry.engine, self._number, layer, read_only=False)
        with ExitStack() as working:
            self._held.enter_context(registry.holding(layer))
            registry.drafts.append(view)
            working.callback(registry.drafts.remove, view)
            conflicts = yield from ThreeWay(view, below, first, second).run()
            taker = Taker(view, Reader(registry.engine, below))
            # What is not in the base goes first: something else may come back to where it is.
            for _, conflict in taker.in_turn(sorted(conflicts, key=lambda each: each.base is not None)):
                with suppress(Refusal):
                    taker.take_base(conflict)
        transaction = Transaction(registry)
        transaction.freeze_layer(layer.id)
        transaction.commit()
        return layer
