"""Merging two versions of a text that come from a common one, line by line.

What one side changed and the other left alone is taken. Where both changed the same lines, or lines next to each
other, they must have made the same of them; otherwise nothing is merged.
"""

from collections.abc import Sequence
from typing import NamedTuple

from heliosfs.base.steps import Steps, finish
from heliosfs.volume.line_diff import matching_in_steps

TEXT_BYTES_MAX = 8 << 20
"""A larger file is not merged by line: it is held in memory three times."""

_LOOKED_AT = 8192
"""A text has no zero byte in its beginning: the rule of git and grep."""


class _Edit(NamedTuple):
    """Lines [start, end) of the base became others."""

    start: int
    end: int
    lines: Sequence[bytes]


def is_text(data: bytes) -> bool:
    """Whether content is taken as lines."""
    return b"\0" not in data[:_LOOKED_AT]


def merge_texts(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Both changes of the base in one text; None when they meet."""
    return finish(merge_in_steps(base, ours, theirs))


def merge_in_steps(base: bytes, ours: bytes, theirs: bytes) -> Steps[bytes | None]:
    """The same in steps."""
    if ours == theirs or base == theirs:
        return ours
    if base == ours:
        return theirs
    lines = _lines(base)
    left = yield from _edits(lines, _lines(ours))
    right = yield from _edits(lines, _lines(theirs))
    merged: list[bytes] = []
    at = i = j = 0
    while i < len(left) or j < len(right):
        if j == len(right) or (i < len(left) and left[i].end < right[j].start):
            edit = left[i]
            i += 1
        elif i == len(left) or right[j].end < left[i].start:
            edit = right[j]
            j += 1
        elif left[i] == right[j]:
            edit = left[i]
            i += 1
            j += 1
        else:
            return None
        merged += lines[at : edit.start]
        merged += edit.lines
        at = edit.end
    return b"".join(merged + lines[at:])


def _lines(text: bytes) -> list[bytes]:
    """The lines with their ends; a carriage return alone ends none."""
    parts = text.split(b"\n")
    last = parts.pop()
    return [part + b"\n" for part in parts] + ([last] if last else [])


def _edits(old: list[bytes], new: list[bytes]) -> Steps[list[_Edit]]:
    found = []
    i = j = 0
    blocks = yield from matching_in_steps(old, new)
    for start, other, count in [*blocks, (len(old), len(new), 0)]:
        if start > i or other > j:
            found.append(_Edit(i, start, new[j:other]))
        i, j = start + count, other + count
    return found
