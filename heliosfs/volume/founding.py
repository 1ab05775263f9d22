"""A new volume: its main branch, with nothing in it or with the directory that it begins with."""

import os

from heliosfs.base.clock import now
from heliosfs.base.keys import INODE, ROOT_INO
from heliosfs.base.records import encode_inode
from heliosfs.layers.delta import FRESH, MADE, Change
from heliosfs.layers.replay import BATCH, encode
from heliosfs.view.inode import Caller
from heliosfs.view.names import DIRECTORY_BYTES
from heliosfs.volume import origins, refs
from heliosfs.volume.refs import BASE_KEY, MAIN_BRANCH, BaseRecord, BranchRecord, branch_key
from heliosfs.volume.registry import Registry
from heliosfs.volume.taking_in import TakingIn
from heliosfs.volume.transaction import Transaction

ROOT_MODE = 0o040755


def found(registry: Registry, taking_in: TakingIn, base: str) -> None:
    """Make the main branch of a new volume. `base` is the path of a directory, or empty."""
    caller = Caller(os.getuid(), os.getgid(), os.getpid(), b"heliosfs")
    transaction = Transaction(registry)
    # What the base's layer is done with goes to one of its own below: see `settling`.
    bottom = transaction.new_layer(transaction.new_layer(0)) if base else 0
    top = transaction.new_layer(bottom) if base else make_empty(registry, caller, ROOT_MODE)
    record = BranchRecord(b"main", 0, top, 0, registry.allocate_number(), now(), caller.uid)
    transaction.put(branch_key(MAIN_BRANCH), refs.encode(record))
    if base:
        transaction.set(BASE_KEY, refs.encode(BaseRecord(bottom, base)))
    transaction.commit("volume.create", base, caller, MAIN_BRANCH)
    if not base:
        return
    taking_in.make_root()
    transaction = Transaction(registry)
    origins.put(transaction, registry.main, origins.IMPORT_PREFIX, bottom, caller, base, ".")
    transaction.commit("import", f"{base} as the base", caller, MAIN_BRANCH)


def make_empty(registry: Registry, caller: Caller, mode: int) -> int:
    """The id of a new mutable layer with nothing in it but a root directory. No ref leads to it yet: if that is never
    to be, it is swept, and nobody sees a tree without a root."""
    transaction = Transaction(registry)
    layer_id = transaction.new_layer(0)
    transaction.commit()
    registry.sweep_due = True
    stamp = now()
    record = encode_inode((mode, caller.uid, caller.gid, 2, DIRECTORY_BYTES, 0, stamp, stamp, stamp, 0))
    records: list[Change] = [(ROOT_INO, FRESH, b"", MADE), (ROOT_INO, INODE, b"", record)]
    registry.engine.journal.append(BATCH, encode((layer_id, records)))
    registry.layers[layer_id].apply(records)
    return layer_id
