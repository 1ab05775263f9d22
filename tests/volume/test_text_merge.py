"""Merging texts by line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosfs.volume.text_merge import is_text, merge_texts

SETTINGS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n", b"e\rf\n"]), max_size=12)
TEXTS = st.builds(lambda lines, end: b"".join(lines) + end, LINES, st.sampled_from([b"", b"end", b"\x0c"]))


@SETTINGS
@given(TEXTS, TEXTS)
def test_one_side_alone_is_taken(base: bytes, changed: bytes) -> None:
    assert merge_texts(base, changed, base) == changed
    assert merge_texts(base, base, changed) == changed
    assert merge_texts(base, changed, changed) == changed


@SETTINGS
@given(TEXTS, TEXTS, TEXTS)
def test_sides_are_alike(base: bytes, ours: bytes, theirs: bytes) -> None:
    assert merge_texts(base, ours, theirs) == merge_texts(base, theirs, ours)


@SETTINGS
@given(st.data())
def test_changes_that_do_not_meet_are_both_made(data: st.DataObject) -> None:
    """Lines are all different, so that it is known which ones were changed."""
    count = data.draw(st.integers(3, 30))
    lines = [b"line %d\n" % number for number in range(count)]
    sides: list[list[bytes]] = [list(lines), list(lines), list(lines)]
    last = -2
    for number in range(count):
        change = data.draw(st.sampled_from(["none", "none", "drop", "replace", "extend"]))
        side = data.draw(st.integers(0, 1))
        if change == "none" or number < last + 2:
            continue
        last = number
        made = {"drop": b"", "replace": b"new %d\n" % number, "extend": lines[number] + b"more %d\n" % number}[change]
        # What follows a change by the other side has a line between that nobody touched.
        sides[side][number] = sides[2][number] = made
    base, ours, theirs, both = (b"".join(each) for each in (lines, *sides))
    assert merge_texts(base, ours, theirs) == both
    assert merge_texts(base, theirs, ours) == both


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (b"1\n2\n3\nX\n", b"X\n2\n3\n4\n", b"X\n2\n3\nX\n"),
        (b"1\nX\n3\n4\n", b"1\nX\n3\n4\n5\n", b"1\nX\n3\n4\n5\n"),
        (b"1\nX\n3\n4\n", b"1\nY\n3\n4\n", None),
        (b"1\nX\n3\n4\n", b"1\n2\nY\n4\n", None),
        (b"0\n1\n2\n3\n4\n", b"X\n1\n2\n3\n4\n", None),
        (b"1\n2\n3\n4\n5\n", b"1\n2\n3\n4\n6\n", None),
        (b"1\n2\n3\n4", b"0\n1\n2\n3\n4\n", b"0\n1\n2\n3\n4"),
        (b"", b"1\n2\n3\n5\n", None),
        (b"2\n3\n4\n", b"1\n2\n3\n", b"2\n3\n"),
    ],
)
def test_examples(ours: bytes, theirs: bytes, merged: bytes | None) -> None:
    assert merge_texts(b"1\n2\n3\n4\n", ours, theirs) == merged


def test_a_zero_byte_in_the_beginning_is_no_text() -> None:
    assert is_text(b"")
    assert is_text(b"\xff\xfe\n")
    assert not is_text(b"a\0b")
    assert is_text(b"a" * 8192 + b"\0")
