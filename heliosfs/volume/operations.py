"""The operation log: every change of a ref, hash-chained.

Invariants:
  1. Operations are numbered from 1 without gaps; each holds the hash of the one before it.
  2. `hash` is the BLAKE3 digest of the operation without it: a change of any operation shows in every later one.
  3. `changes` holds, for each ref that the operation changed for people, its value before and after. That is all
     that undo needs; the states named in `before` are kept for `RETAINED_SECONDS` while the operation is.
"""

import msgspec

from heliosfs.base.digests import DIGEST_BYTES, digest
from heliosfs.base.errors import Corruption

FIRST_HASH = bytes(DIGEST_BYTES)

RETAINED = 10_000
"""Operations that are kept in the log; older ones are forgotten."""

RETAINED_SECONDS = 30 * 86400
"""How long what an operation replaced or removed is kept so that it can be undone: time enough to notice, and an
end to what is dropped daily. The operation itself stays in the log."""

RefChange = tuple[bytes, bytes | None, bytes | None]
"""(ref, value before, value after); None where there was, or is, none."""


class Operation(msgspec.Struct, array_like=True, frozen=True):
    """One entry of the log. `time` in ns; `verb` such as "snapshot.create"; `text` what it was done to."""

    number: int
    time: int
    verb: str
    text: str
    uid: int
    pid: int
    command: bytes
    branch: int
    changes: list[RefChange]
    previous: bytes
    hash: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Operation).decode
_NO_HASH = _encode(b"")
_HASH_HEADER = _encode(FIRST_HASH).removesuffix(FIRST_HASH)


def chain(operation: Operation) -> tuple[Operation, bytes]:
    """The operation with its hash, and its stored form."""
    unhashed = _encode(operation)
    assert unhashed.endswith(_NO_HASH)
    hashed = digest(unhashed)
    # The hash comes last, so the rest need not be encoded again.
    encoded = unhashed.removesuffix(_NO_HASH) + _HASH_HEADER + hashed
    return msgspec.structs.replace(operation, hash=hashed), encoded


def _hash(operation: Operation) -> bytes:
    return digest(_encode(msgspec.structs.replace(operation, hash=b"") if operation.hash else operation))


def keeps_states(operation: Operation) -> bool:
    """Whether it names a state that something had before."""
    return any(before is not None for _, before, _ in operation.changes)


def encode(operation: Operation) -> bytes:
    """The stored form."""
    return _encode(operation)


def decode(value: bytes) -> Operation:
    """An operation from its stored form."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise Corruption("operation", str(error)) from error


class Verifier:
    """Checks a log, operation by operation. The first one follows one with the hash `previous`."""

    def __init__(self, previous: bytes = FIRST_HASH, first: int = 1) -> None:
        self.problems: list[str] = []
        self.checked = 0
        self._expected = first
        self._previous = previous

    def take(self, operation: Operation) -> None:
        """The next one."""
        self.checked += 1
        if operation.hash != _hash(operation):
            self.problems.append(f"operation {operation.number} was changed after it was recorded")
        if operation.previous != self._previous:
            self.problems.append(f"operation {operation.number} does not follow the one before it")
        if operation.number != self._expected:
            self.problems.append(f"operation {self._expected} is missing")
        self._expected = operation.number + 1
        self._previous = operation.hash


def verify(log: list[Operation], previous: bytes = FIRST_HASH) -> list[str]:
    """What is wrong with a log whose first operation follows one with the hash `previous`."""
    verifier = Verifier(previous, log[0].number if log else 1)
    for operation in log:
        verifier.take(operation)
    return verifier.problems
