"""A view: one state, or one branch's changing state, as a POSIX tree."""

from heliosfs.layers.layer import Layer
from heliosfs.view.adoption import Adoption
from heliosfs.view.attributes import Attributes
from heliosfs.view.engine import Engine
from heliosfs.view.xattrs import Xattrs


class View(Adoption, Attributes, Xattrs):
    """All that one can do with a tree. See the parts: names, content, attributes, xattrs, adoption.

    `number` tells the views of a mount apart (0 is the main branch); `top` is the layer that takes changes.
    """

    def __init__(self, engine: Engine, number: int, top: Layer, *, read_only: bool) -> None:
        assert read_only or not top.frozen
        super().__init__(engine, number, top, read_only)

    def _view(self) -> "View":
        return self
