"""Reading one record through a stack: from the newest layer to the oldest, then the Merkle tree.

Every function takes the tree (nodes of all roots), the layer at which to start, and keys.
"""

from collections.abc import Iterator

from heliosfs.base.keys import ENTRY, EXTENT, INODE, LINK, OFFSET_BYTES, SYMLINK, XATTR, key
from heliosfs.base.records import HOLE, Extent, decode_entry, decode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.extents import END, Gap
from heliosfs.layers.layer import Layer
from heliosfs.layers.span import SPAN_MASK
from heliosfs.merkle import EMPTY
from heliosfs.merkle.tree import Tree


def find_inode(tree: Tree, layer: Layer | None, ino: int) -> bytes | None:
    """The INODE record, or None."""
    while layer is not None:
        if layer.root is not None:
            return tree.get(layer.root, key(ino, INODE))
        delta = layer.deltas.get(ino)
        if delta is not None:
            if delta.inode is not None:
                return delta.inode
            if delta.fresh:
                return None
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    return None


def find_entry(tree: Tree, layer: Layer | None, directory: int, name: bytes) -> int | None:
    """The ENTRY of a name as an integer, or None."""
    while layer is not None:
        if layer.root is not None:
            value = tree.get(layer.root, key(directory, ENTRY, name))
            return None if value is None else decode_entry(value)
        delta = layer.deltas.get(directory)
        if delta is not None:
            if delta.entries is not None and name in delta.entries:
                return delta.entries[name]
            if delta.fresh:
                return None if layer.lister is None else _find_listed(layer, directory, name)
        layer = layer.below if layer.depth & SPAN_MASK else layer.after_for_name(directory, name)
    return None


def _find_listed(layer: Layer, directory: int, name: bytes) -> int | None:
    """The ENTRY of a name in the layer of a base, which reads the directory if that is still to be done."""
    assert layer.lister is not None
    layer.lister(directory)
    entries = layer.deltas[directory].entries
    return entries.get(name) if entries else None


def find_symlink(tree: Tree, layer: Layer | None, ino: int) -> bytes | None:
    """The target of a symbolic link, or None."""
    while layer is not None:
        if layer.root is not None:
            return tree.get(layer.root, key(ino, SYMLINK))
        delta = layer.deltas.get(ino)
        if delta is not None and (delta.symlink is not None or delta.fresh):
            return delta.symlink
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    return None


def find_xattr(tree: Tree, layer: Layer | None, ino: int, name: bytes) -> bytes | None:
    """The value of an extended attribute, or None."""
    while layer is not None:
        if layer.root is not None:
            return tree.get(layer.root, key(ino, XATTR, name))
        delta = layer.deltas.get(ino)
        if delta is not None:
            if delta.xattrs is not None and name in delta.xattrs:
                return delta.xattrs[name]
            if delta.fresh:
                return None
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    return None


def entries(tree: Tree, layer: Layer | None, directory: int) -> dict[bytes, int]:
    """All names of a directory, in no order."""
    hidden: dict[bytes, int | None] = {}
    for delta in _deltas(layer, directory):
        if delta.entries:
            hidden = {**delta.entries, **hidden} if hidden else dict(delta.entries)
    root = _root(layer, directory)
    below = {suffix: decode_entry(value) for suffix, value in _scan(tree, root, directory, ENTRY)}
    found: dict[bytes, int] = below
    for name, child in hidden.items():
        if child is None:
            found.pop(name, None)
        else:
            found[name] = child
    return found


def has_entries(tree: Tree, layer: Layer | None, directory: int) -> bool:
    """Whether a directory has any name in it."""
    hidden: dict[bytes, int | None] = {}
    for delta in _deltas(layer, directory):
        if delta.entries:
            hidden = {**delta.entries, **hidden} if hidden else dict(delta.entries)
    if any(child is not None for child in hidden.values()):
        return True
    root = _root(layer, directory)
    return any(suffix not in hidden for suffix, _ in _scan(tree, root, directory, ENTRY))


def xattrs(tree: Tree, layer: Layer | None, ino: int) -> dict[bytes, bytes]:
    """All extended attributes of an inode."""
    hidden: dict[bytes, bytes | None] = {}
    for delta in _deltas(layer, ino):
        hidden = {**(delta.xattrs or {}), **hidden}
    found = dict(_scan(tree, _root(layer, ino), ino, XATTR))
    return _overlay(found, hidden)


def links(tree: Tree, layer: Layer | None, ino: int) -> dict[bytes, bytes]:
    """The names of an inode, as suffixes of LINK records (see `keys.split_link`)."""
    hidden: dict[bytes, bytes | None] = {}
    for delta in _deltas(layer, ino):
        hidden = {**(delta.links or {}), **hidden}
    found = dict(_scan(tree, _root(layer, ino), ino, LINK))
    return _overlay(found, hidden)


def resolve(tree: Tree, layer: Layer | None, ino: int, start: int, end: int) -> list[Extent]:
    """What [start, end) of a file is made of: adjacent extents in order that cover it, holes included."""
    found: list[Extent] = []
    gaps: list[Gap] = [(start, end)]
    while layer is not None:
        if layer.root is not None:
            gaps = [rest for gap in gaps for rest in _resolve_tree(tree, layer.root, ino, *gap, found)]
            break
        delta = layer.deltas.get(ino)
        if delta is not None:
            extents = delta.extents
            if extents is not None:
                if len(gaps) == 1:
                    gaps = extents.cover(gaps[0][0], gaps[0][1], found)
                else:
                    gaps = [rest for gap in gaps for rest in extents.cover(*gap, found)]
                if not gaps:
                    break
            if delta.fresh:
                break
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    found.extend((low, high, HOLE, None, 0) for low, high in gaps)
    if len(found) > 1:
        found.sort(key=_start_of)
    return found


def _start_of(extent: Extent) -> int:
    return extent[0]


def tree_extents(tree: Tree, root: bytes, ino: int, start: int, end: int) -> Iterator[Extent]:
    """The extents of a Merkle tree that reach into [start, end), whole and in order."""
    first = key(ino, EXTENT, start.to_bytes(OFFSET_BYTES, "big"))
    last = key(ino, EXTENT, min(end, END).to_bytes(OFFSET_BYTES, "big"))
    entries = tree.scan(root, first, last)
    entry = next(entries, None)
    if start and (entry is None or entry[0] != first):
        before = tree.before(root, first)
        if before is not None and before[0].startswith(key(ino, EXTENT)):
            extent = _decode(*before)
            if extent[1] > start:
                yield extent
    while entry is not None:
        yield _decode(*entry)
        entry = next(entries, None)


def _decode(record_key: bytes, value: bytes) -> Extent:
    return decode_extent(int.from_bytes(record_key[-OFFSET_BYTES:], "big"), value)


def _resolve_tree(tree: Tree, root: bytes, ino: int, start: int, end: int, found: list[Extent]) -> list[Gap]:
    gaps: list[Gap] = []
    at = start
    for low, high, kind, source, skip in tree_extents(tree, root, ino, start, end):
        if low > at:
            gaps.append((at, low))
        begin = max(low, at)
        at = min(high, end)
        if begin < at:
            found.append((begin, at, kind, source, skip + begin - low))
    if at < end:
        gaps.append((at, end))
    return gaps


def _deltas(layer: Layer | None, ino: int) -> list[Delta]:
    """What the unsealed layers say of an inode, newest first, down to the one that hides the rest."""
    found = []
    while layer is not None and layer.root is None:
        delta = layer.deltas.get(ino)
        if delta is not None:
            found.append(delta)
            if delta.fresh:
                if layer.lister is not None:
                    layer.lister(ino)
                break
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    return found


def _root(layer: Layer | None, ino: int) -> bytes | None:
    """The root that shows through for an inode, or None."""
    while layer is not None:
        if layer.root is not None:
            return layer.root
        delta = layer.deltas.get(ino)
        if delta is not None and delta.fresh:
            return None
        layer = layer.below if layer.depth & SPAN_MASK else layer.after(ino)
    return None


def _scan(tree: Tree, root: bytes | None, ino: int, kind: int) -> Iterator[tuple[bytes, bytes]]:
    prefix = key(ino, kind)
    skip = len(prefix)
    return ((record_key[skip:], value) for record_key, value in tree.scan(root or EMPTY, prefix, key(ino, kind + 1)))


def _overlay(found: dict[bytes, bytes], hidden: dict[bytes, bytes | None]) -> dict[bytes, bytes]:
    for name, value in hidden.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found
