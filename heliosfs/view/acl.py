"""POSIX access control lists: their stored form, and what they mean for modes.

A list is kept as an extended attribute in the kernel's own form, which is what setxattr(2) carries: a version, then
entries of tag, permissions and id, little-endian. One that says no more than the nine permission bits is not kept.

Invariant: the access list of an inode and its permission bits agree (see `permissions`). Whatever changes one of
them changes the other.
"""

import errno
import struct
from collections.abc import Callable
from stat import S_IRWXG, S_IRWXO, S_IRWXU
from typing import Final, NamedTuple

from heliosfs.base.errors import Refusal

ACCESS: Final = b"system.posix_acl_access"
DEFAULT: Final = b"system.posix_acl_default"
"""The names of the extended attributes: who may do what, and what new files in a directory begin with."""

USER_OBJ: Final = 0x01
USER: Final = 0x02
GROUP_OBJ: Final = 0x04
GROUP: Final = 0x08
MASK: Final = 0x10
OTHER: Final = 0x20
"""Tags of entries: the owner, a user, the owning group, a group, the most that the middle three may have, all
others."""

PERMISSIONS: Final = S_IRWXU | S_IRWXG | S_IRWXO
"""The bits of a mode with which lists have to do."""

_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_NO_ID: Final = 0xFFFFFFFF
_NAMED: Final = USER | GROUP


class Entry(NamedTuple):
    """What one class of users may do; `id` counts for USER and GROUP."""

    tag: int
    bits: int
    id: int = _NO_ID


Acl = list[Entry]


def decode(value: bytes) -> Acl:
    """The list in an attribute; EINVAL unless it is one that POSIX allows."""
    body = len(value) - _HEADER.size
    if body < 0 or body % _ENTRY.size or _HEADER.unpack_from(value) != (_VERSION,):
        raise Refusal(errno.EINVAL, "not an access control list")
    acl = [Entry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :])]
    if not _is_valid(acl):
        raise Refusal(errno.EINVAL, "an access control list that contradicts itself")
    return acl


def encode(acl: Acl) -> bytes:
    """The attribute of a list."""
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in acl)


def is_minimal(acl: Acl) -> bool:
    """Whether a list says no more than permission bits do."""
    return not any(entry.tag & (_NAMED | MASK) for entry in acl)


def permissions(acl: Acl) -> int:
    """The permission bits that belong to a list: those of the group are its mask's, where it has one."""
    bits = {entry.tag: entry.bits for entry in acl}
    return bits[USER_OBJ] << 6 | bits.get(MASK, bits[GROUP_OBJ]) << 3 | bits[OTHER]


def changed_mode(acl: Acl, mode: int) -> Acl:
    """The list after chmod."""
    return _with_classes(acl, lambda bits, of_class: of_class, mode)


def inherited(default: Acl, mode: int) -> Acl:
    """The access list of a file that is made with `mode` where a default list is: what both allow."""
    return _with_classes(default, lambda bits, of_class: bits & of_class, mode)


def permits(acl: Acl, wanted: int, owner: bool, uid: int, owning_group: bool, is_member: Callable[[int], bool]) -> bool:
    """Whether somebody may do all of `wanted` (bits of r, w, x).

    `owner` and `owning_group` say whether that is the file's owner and in the file's group.
    """
    if owner:
        return not wanted & ~_bits_of(acl, USER_OBJ)
    most = next((entry.bits for entry in acl if entry.tag == MASK), 7)
    for entry in acl:
        if entry.tag == USER and entry.id == uid:
            return not wanted & ~(entry.bits & most)
    groups = [entry for entry in acl if entry.tag == GROUP_OBJ and owning_group]
    groups += [entry for entry in acl if entry.tag == GROUP and is_member(entry.id)]
    if groups:
        return any(not wanted & ~(entry.bits & most) for entry in groups)
    return not wanted & ~_bits_of(acl, OTHER)


def _bits_of(acl: Acl, tag: int) -> int:
    return next(entry.bits for entry in acl if entry.tag == tag)


def _with_classes(acl: Acl, choose: Callable[[int, int], int], mode: int) -> Acl:
    """The list with the bits of the three classes of `mode` brought into the entries that stand for them."""
    has_mask = any(entry.tag == MASK for entry in acl)
    shifts = {USER_OBJ: 6, MASK if has_mask else GROUP_OBJ: 3, OTHER: 0}
    return [
        entry._replace(bits=choose(entry.bits, mode >> shifts[entry.tag] & 7)) if entry.tag in shifts else entry
        for entry in acl
    ]


def _is_valid(acl: Acl) -> bool:
    """One entry each for the three classes, at most one mask, which named entries need; in the order of the tags."""
    tags = [entry.tag for entry in acl]
    if tags != sorted(tags) or any(tag not in (USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER) for tag in tags):
        return False
    if any(entry.bits & ~7 or (entry.tag & _NAMED and entry.id == _NO_ID) for entry in acl):
        return False
    masks = tags.count(MASK)
    return all(tags.count(tag) == 1 for tag in (USER_OBJ, GROUP_OBJ, OTHER)) and masks <= 1 and (
        masks == 1 or not any(tag & _NAMED for tag in tags)
    )
