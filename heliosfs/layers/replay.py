"""What the journal says of layers, and how it is put back into them after a crash.

    BATCH    [layer, [[ino, kind, suffix, value], ...]]     the records that one operation put
    WRITE    [layer, ino, offset, inode record] and data    bytes written to a file, and its inode since
    ORPHAN   nothing and data                               bytes of an unlinked file: nobody can reach them later
    REFS     see `volume.refs`                              freeze, fork, restore, drop
"""

from typing import Final

import msgspec

from heliosfs.base.errors import Corruption
from heliosfs.base.records import Source
from heliosfs.layers.delta import Change
from heliosfs.layers.layer import Layer

BATCH: Final = 1
WRITE: Final = 2
ORPHAN: Final = 3
REFS: Final = 4

encode = msgspec.msgpack.Encoder().encode

_Value = bytes | int | tuple[int, int, bytes | int | None, int] | None
_decode_batch = msgspec.msgpack.Decoder(tuple[int, list[tuple[int, int, bytes | int, _Value]]]).decode
_decode_write = msgspec.msgpack.Decoder(tuple[int, int, int, bytes]).decode


def decode_batch(header: bytes) -> tuple[int, list[Change]]:
    """(layer id, changes) of a BATCH record."""
    try:
        layer_id, changes = _decode_batch(header)
    except msgspec.MsgspecError as error:
        raise Corruption("journal record", f"a batch: {error}") from error
    return layer_id, [(ino, kind, suffix, _value(value)) for ino, kind, suffix, value in changes]


def _value(value: _Value) -> bytes | int | tuple[int, int, Source, int] | None:
    return value


def replay_batch(layers: dict[int, Layer], header: bytes) -> list[Change]:
    """Put a BATCH record into its layer again; the changes it made."""
    layer_id, changes = decode_batch(header)
    _layer(layers, layer_id).apply(changes)
    return changes


def replay_write(layers: dict[int, Layer], header: bytes, position: int, data_length: int) -> None:
    """Put a WRITE record into its layer again."""
    try:
        layer_id, ino, offset, record = _decode_write(header)
    except msgspec.MsgspecError as error:
        raise Corruption("journal record", f"a write: {error}") from error
    _layer(layers, layer_id).write(ino, record, offset, offset + data_length, position)


def _layer(layers: dict[int, Layer], layer_id: int) -> Layer:
    layer = layers.get(layer_id)
    if layer is None or (layer.frozen and layer.lister is None):
        raise Corruption("journal record", f"a change of layer {layer_id}, which is not a mutable one")
    return layer
