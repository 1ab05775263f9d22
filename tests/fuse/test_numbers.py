"""The kernel's inode numbers, and the numbers and modes of the reserved names."""

from stat import S_IMODE, S_ISDIR

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosfs.base.keys import FIRST_INO, INO_BITS, INO_MAX, ROOT_INO, VIEW_BITS
from heliosfs.fuse import magic
from heliosfs.fuse.numbers import is_reserved, pack, unpack


@given(view=st.integers(0, (1 << VIEW_BITS) - 1), ino=st.integers(1, (1 << INO_BITS) - 1))
def test_numbers_go_both_ways_and_fit_a_double(view: int, ino: int) -> None:
    number = pack(view, ino)
    assert unpack(number) == (view, ino)
    assert 0 < number < 1 << 53 and int(float(number)) == number


def test_the_main_branch_has_small_numbers() -> None:
    assert pack(0, 12345) == 12345


@pytest.mark.parametrize(
    ("ino", "reserved"),
    [(ROOT_INO, False), (2, True), (FIRST_INO - 1, True), (FIRST_INO, False), (INO_MAX - 1, False), (INO_MAX, True)],
)
def test_no_file_has_a_reserved_number(ino: int, reserved: bool) -> None:
    assert is_reserved(ino) == reserved


def test_every_reserved_name_has_a_reserved_number_of_its_own() -> None:
    numbers = [*magic.ROOT_NAMES.values(), *magic.CONTROL_NAMES.values()]
    assert len(set(numbers)) == len(numbers)
    assert all(is_reserved(number) for number in numbers)


def test_reserved_files_have_modes_and_containers_have_their_trees() -> None:
    assert set(magic.MODES) == {magic.CONTROL, *magic.CONTROL_NAMES.values()}
    assert not set(magic.CONTAINERS) & set(magic.MODES)


def test_what_changes_a_tree_for_everybody_is_for_its_owner() -> None:
    assert {S_IMODE(magic.MODES[verb]) for verb in magic.VERBS} == {0o200}
    assert all(S_ISDIR(magic.MODES[each]) and S_IMODE(magic.MODES[each]) == 0o500 for each in magic.REPORTS)


@pytest.mark.parametrize(
    ("name", "reserved"),
    [(b".snapshots", True), (b".branches", True), (b".heliosfs", True), (b"snapshots", False), (b".snapshots2", False)],
)
def test_only_three_names_are_reserved(name: bytes, reserved: bool) -> None:
    assert magic.is_reserved_name(name) == reserved
