"""Access control lists by themselves: their form, and what they permit."""

import errno
import itertools

import pytest

from heliosfs.base.errors import Refusal
from heliosfs.view.acl import (
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    USER,
    USER_OBJ,
    Acl,
    Entry,
    changed_mode,
    decode,
    encode,
    inherited,
    is_minimal,
    permissions,
    permits,
)

MINIMAL = [Entry(USER_OBJ, 7), Entry(GROUP_OBJ, 5), Entry(OTHER, 0)]
FULL = [
    Entry(USER_OBJ, 7), Entry(USER, 6, 1000), Entry(GROUP_OBJ, 1), Entry(GROUP, 7, 50), Entry(MASK, 5), Entry(OTHER, 4),
]  # fmt: skip


def test_the_form_is_the_kernels() -> None:
    assert encode(MINIMAL) == bytes.fromhex("02000000 01000700ffffffff 04000500ffffffff 20000000ffffffff")
    assert decode(encode(FULL)) == FULL
    assert is_minimal(MINIMAL)
    assert not is_minimal(FULL)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\1\0\0\0",
        encode(MINIMAL)[:-1],
        b"\1" + encode(MINIMAL)[1:],
        encode([]),
        encode(MINIMAL[1:]),
        encode(MINIMAL[::-1]),
        encode([*MINIMAL, Entry(OTHER, 0)]),
        encode([MINIMAL[0], Entry(USER, 7, 1000), *MINIMAL[1:]]),  # a named entry without a mask
        encode([entry for entry in FULL if entry.tag != MASK]),
        encode([entry._replace(id=0xFFFFFFFF) for entry in FULL]),
        encode([*MINIMAL[:2], Entry(OTHER, 8)]),
        encode([*MINIMAL[:2], Entry(MASK, 7), Entry(MASK, 7), MINIMAL[2]]),
        encode([*MINIMAL, Entry(0x40, 7)]),
    ],
)
def test_what_is_no_list_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        decode(value)
    assert refused.value.errno == errno.EINVAL


def test_the_bits_of_a_mode() -> None:
    assert permissions(MINIMAL) == 0o750
    assert permissions(FULL) == 0o754
    for mode in range(0o1000):
        assert permissions(changed_mode(MINIMAL, mode)) == mode
        assert permissions(changed_mode(FULL, mode)) == mode
        assert permissions(inherited(FULL, mode)) == mode & 0o754
    assert changed_mode(FULL, 0o421)[1:4] == FULL[1:4]


def old_rules(mode: int, wanted: int, owner: bool, member: bool) -> bool:
    shift = 6 if owner else 3 if member else 0
    return not wanted & ~(mode >> shift & 7)


def test_a_minimal_list_permits_what_its_mode_does() -> None:
    for mode, wanted, owner, member in itertools.product(range(0o1000), (1, 2, 4, 6, 7), (False, True), (False, True)):
        acl = changed_mode(MINIMAL, mode)
        assert permits(acl, wanted, owner, 1, member, lambda _: False) == old_rules(mode, wanted, owner, member)


@pytest.mark.parametrize(
    ("uid", "owning_group", "groups", "allowed"),
    [
        (1000, False, set(), 4),  # rw- of the named user, of which the mask leaves r--
        (1000, True, {50}, 4),  # a named user's groups do not count
        (1, True, set(), 1),
        (1, False, {50}, 5),
        (1, True, {50}, 5),  # one of the groups is enough
        (1, False, {51}, 4),
    ],
)
def test_named_entries(uid: int, owning_group: bool, groups: set[int], allowed: int) -> None:
    def asked(acl: Acl, wanted: int, owner: bool = False) -> bool:
        return permits(acl, wanted, owner, uid, owning_group, groups.__contains__)

    assert [bit for bit in (1, 2, 4) if asked(FULL, bit)] == [bit for bit in (1, 2, 4) if allowed & bit]
    assert asked(FULL, 7, owner=True)
