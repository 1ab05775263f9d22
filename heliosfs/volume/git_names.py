"""Paths as git writes them in its patches and lists.

A path with control characters, quotes, backslashes or bytes beyond ASCII stands in double quotes, with C's escapes:
that is what `git apply` and `patch` read, whatever the reader's locale.
"""

import re

_SPECIAL = re.compile(rb'[\x00-\x1f\x7f-\xff"\\]')
_ESCAPES = {
    b"\a": b"\\a", b"\b": b"\\b", b"\t": b"\\t", b"\n": b"\\n", b"\v": b"\\v", b"\f": b"\\f", b"\r": b"\\r",
    b'"': b'\\"', b"\\": b"\\\\",
}  # fmt: skip


def quoted(path: bytes) -> bytes:
    """A path, in quotes where it needs them."""
    if _SPECIAL.search(path) is None:
        return path
    return b'"' + _SPECIAL.sub(_escape, path) + b'"'


def quoted_blanks(path: bytes) -> bytes:
    """The same, but also in quotes where it has blanks."""
    name = quoted(path)
    return b'"' + name + b'"' if b" " in name and not name.startswith(b'"') else name


def _escape(match: re.Match[bytes]) -> bytes:
    character = match.group()
    return _ESCAPES.get(character) or b"\\%03o" % character[0]


def header_name(prefix: bytes, path: bytes) -> bytes:
    """A path in a line that begins with --- or +++: a tab ends one with blanks in it.

    One that ends with a blank is quoted, which git does not do: `patch` would take the blank off.
    """
    name = quoted(prefix + path)
    if name.endswith(b" "):
        return b'"' + name + b'"'
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name
