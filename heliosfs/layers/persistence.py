"""Layers in the database: what a flush writes of them, and how they come back.

    LAYERS   layer id (8 bytes)         -> msgpack [id of the layer below or 0, root or None, frozen]
    RECORDS  layer id (8 bytes) + key   -> 0 for a tombstone, or 1 and the value

A flush writes what changed since the last one. Together with the journal from the flush's position on, the
database says all that the layers in memory say.
"""

import msgspec

from heliosfs.base.errors import Corruption
from heliosfs.base.keys import EXTENT, INO_BYTES, INODE, OFFSET_BYTES, key, split
from heliosfs.base.records import encode_extent
from heliosfs.layers.delta import Delta
from heliosfs.layers.extents import ExtentMap
from heliosfs.layers.layer import Layer
from heliosfs.store.database import LAYERS, RECORDS, Batch, Database

ID_BYTES = 8
_TOMBSTONE = b"\x00"
_VALUE = b"\x01"

_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(tuple[int, bytes | None, bool]).decode


def row_key(layer_id: int) -> bytes:
    """The key of a layer's row, and the prefix of its records."""
    return layer_id.to_bytes(ID_BYTES, "big")


def collect(layer: Layer, batch: Batch) -> None:
    """Add what the database does not know of a layer to a flush, and forget that it was new."""
    prefix = row_key(layer.id)
    if layer.row_changed:
        below = layer.below.id if layer.below is not None else 0
        batch.put(LAYERS, prefix, _encode((below, layer.root, layer.frozen)))
        if layer.root is not None and layer.stored:
            batch.delete_prefix(RECORDS, prefix)
        layer.row_changed = False
        layer.stored = True
    if layer.rewrite:
        batch.delete_prefix(RECORDS, prefix)
    _delete_settled(layer, prefix, batch)
    for ino in layer.cleared:
        delta = layer.deltas.get(ino)
        if delta is not None:
            _put_all(prefix, ino, delta, batch)
    _put_changes(layer, prefix, batch)
    _put_touched(layer, prefix, batch)
    layer.unflushed, layer.unflushed_records = [], 0
    layer.touched, layer.cleared = set(), set()
    layer.settled, layer.rewrite = [], False


def _delete_settled(layer: Layer, prefix: bytes, batch: Batch) -> None:
    """Numbers in a row go at once: they were mostly given out so."""
    first = last = -1
    for ino in (*sorted(layer.settled), -1):
        if ino == last + 1 and last >= 0:
            last = ino
            continue
        if last >= 0:
            batch.delete_between(RECORDS, prefix + _ino(first), prefix + _ino(last + 1))
        first = last = ino


def _ino(ino: int) -> bytes:
    return ino.to_bytes(INO_BYTES, "big")


def _put_all(prefix: bytes, ino: int, delta: Delta, batch: Batch) -> None:
    if delta.stored:
        batch.delete_prefix(RECORDS, prefix + _ino(ino))
    for kind, suffix, value in delta.records():
        batch.put(RECORDS, prefix + key(ino, kind, suffix), _TOMBSTONE if value is None else _VALUE + value)
    if delta.extents is not None:
        delta.extents.dirty.clear()
    delta.stored = True


def _put_changes(layer: Layer, prefix: bytes, batch: Batch) -> None:
    seen: set[tuple[int, int, bytes | int]] = set()
    for changes in layer.unflushed:
        for ino, kind, suffix, _ in changes:
            if kind == EXTENT or ino in layer.cleared or (ino, kind, suffix) in seen:
                continue
            seen.add((ino, kind, suffix))
            delta = layer.deltas.get(ino)
            if delta is None:
                continue
            assert isinstance(suffix, bytes)
            value = delta.stored_value(kind, suffix)
            record_key = prefix + key(ino, kind, suffix)
            batch.put(RECORDS, record_key, _TOMBSTONE if value is None else _VALUE + value)
            delta.stored = True


def _put_touched(layer: Layer, prefix: bytes, batch: Batch) -> None:
    for ino in layer.touched:
        delta = layer.deltas.get(ino)
        if delta is None or delta.extents is None or ino in layer.cleared:
            continue
        if delta.inode is not None:
            batch.put(RECORDS, prefix + key(ino, INODE), _VALUE + delta.inode)
        _put_extents(prefix + key(ino, EXTENT), delta.extents, batch)
        delta.extents.dirty.clear()
        delta.stored = True


def _put_extents(prefix: bytes, extents: ExtentMap, batch: Batch) -> None:
    """Those that are dirty: tens of thousands, after random writes."""
    for start in extents.dirty:
        extent = extents.get(start)
        record_key = prefix + start.to_bytes(OFFSET_BYTES, "big")
        if extent is None:
            batch.delete(RECORDS, record_key)
        else:
            batch.put(RECORDS, record_key, _VALUE + encode_extent(*extent))


def remember_all(layer: Layer) -> None:
    """After a flush that failed: let the next one write everything of this layer again."""
    layer.row_changed = True
    layer.rewrite = layer.lister is not None
    layer.cleared = set(layer.deltas)
    for delta in layer.deltas.values():
        delta.stored = True


def remove(layer_id: int, batch: Batch) -> None:
    """Let the database forget a layer."""
    batch.delete(LAYERS, row_key(layer_id))
    batch.delete_prefix(RECORDS, row_key(layer_id))


def load(database: Database) -> dict[int, Layer]:
    """All layers as of the last flush, by id."""
    rows: dict[int, tuple[int, bytes | None, bool]] = {}
    for row, value in database.scan(LAYERS):
        try:
            rows[int.from_bytes(row, "big")] = _decode_row(value)
        except msgspec.MsgspecError as error:
            raise Corruption("layer row", f"layer {int.from_bytes(row, 'big')}: {error}") from error
    layers = {layer_id: Layer(layer_id, None, root) for layer_id, (_, root, _) in rows.items()}
    for layer_id, (below, _, frozen) in sorted(rows.items()):  # the layer below is the older one
        layer = layers[layer_id]
        if below and below not in layers:
            raise Corruption("layer row", f"layer {layer_id}: the layer below, {below}, is missing")
        if below and layer.root is None:
            layer.put_on(layers[below])
        layer.frozen = frozen
        layer.stored, layer.row_changed = True, False
    _load_records(database, layers)
    return layers


def _load_records(database: Database, layers: dict[int, Layer]) -> None:
    for record_key, value in database.scan(RECORDS):
        layer = layers.get(int.from_bytes(record_key[:ID_BYTES], "big"))
        if layer is None or layer.root is not None:
            raise Corruption("layer record", f"a record of no unsealed layer: {record_key[:ID_BYTES].hex()}")
        ino, kind, suffix = split(record_key[ID_BYTES:])
        delta = layer.delta(ino)
        delta.restore(kind, suffix, None if value[:1] == _TOMBSTONE else value[1:])
        delta.stored = True
        layer.records += 1
    for layer in layers.values():
        for ino, delta in layer.deltas.items():
            if delta.extents is not None:
                delta.extents.dirty.clear()
                if delta.extents.written:
                    layer.uncut.add(ino)
                if delta.extents.based:
                    layer.based.add(ino)
