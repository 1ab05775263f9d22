"""The difference of two states as a unified diff, in git's dialect: `git apply` and `patch -p1` take it.

The names of git's objects are in it as well: with them `git apply -3` finds what a patch was made from, and `patch`
knows symbolic links and files that become empty from those that are gone.

Files are text when git would say so. What the dialect cannot express stands in lines that begin with "heliosfs:",
which both tools pass over: directories, special files, owners, extended attributes, modes beyond the executable bit.
A diff with a binary file in it says so as git does, and is then for reading alone.

The diff is made piece by piece while it is iterated, in steps of some ms: an empty piece is a step without anything to
say. Both states have to stay as they are meanwhile: that of a branch that goes on changing is to be consumed at once,
or frozen first.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK, S_IMODE, S_IXUSR
from typing import Final, NamedTuple

from heliosfs.base.digests import digest
from heliosfs.base.steps import Steps, finish
from heliosfs.layers.layer import Layer
from heliosfs.view.engine import Engine
from heliosfs.volume.changes import ADDED, DELETED, MODIFIED, RETYPED, Change, File, changes_in_steps
from heliosfs.volume.git_names import header_name, quoted, quoted_blanks
from heliosfs.volume.line_diff import Block, matching_in_steps
from heliosfs.volume.reader import Reader

CONTEXT_LINES = 3

TEXT_BYTES_MAX = 32 << 20
"""Larger files count as binary: nobody reads their diff, and comparing them takes memory and seconds."""

BINARY_LOOK_BYTES = 8000
"""A NUL among the first bytes makes a file binary: git's rule."""

_OBJECT_DIGITS: Final = 10
"""Of an object's name: enough to be the only one in most repositories."""

_NO_NEWLINE = b"\\ No newline at end of file\n"
_MODE_FILE: Final = 0o100644
_MODE_PROGRAM: Final = 0o100755
_MODE_SYMLINK: Final = 0o120000
_PLAIN_MODES = (0o644, 0o755)
"""What git can say of a file's mode."""


class _Side(NamedTuple):
    """A file as a patch sees it, in one of the states. Without `text` it is binary."""

    path: bytes
    mode: int
    size: int
    text: bytes | None


class _Pair(NamedTuple):
    """One section of a patch: what a file was and is, and the remarks that go before it."""

    old: _Side | None
    new: _Side | None
    remarks: list[bytes]


class Count(NamedTuple):
    """Lines that one file gained and lost; None of a binary file, which has sizes."""

    path: bytes
    old_path: bytes | None
    added: int | None
    removed: int | None
    old_size: int
    new_size: int


def patch(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = ()) -> Iterator[bytes]:
    """The patch that makes state `b` of state `a`, piece by piece; with `paths`, that of what is there or below."""
    for pair in _pairs(engine, a, b, paths):
        if pair is None:
            yield b""
            continue
        yield from pair.remarks
        if pair.old is not None or pair.new is not None:
            yield from _section(pair.old, pair.new)


def counts(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = ()) -> Iterator[Count | None]:
    """How much each file changed; None for a step without one."""
    for pair in _pairs(engine, a, b, paths):
        yield None
        if pair is None:
            continue
        old, new, _ = pair
        side = new or old
        if side is None:
            continue
        old_path = old.path if old and new and old.path != new.path else None
        sizes = (old.size if old else 0, new.size if new else 0)
        if (old and old.text is None) or (new and new.text is None):
            yield Count(side.path, old_path, None, None, *sizes)
        else:
            before, after = _lines(old), _lines(new)
            matching = matching_in_steps(before, after)
            same = sum(count for _, _, count in (yield from matching))
            yield Count(side.path, old_path, len(after) - same, len(before) - same, *sizes)


def stat_text(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = ()) -> bytes:
    """How much each file changed, in a table for people, with a sum below."""
    return finish(stat_in_steps(engine, a, b, paths))


def stat_in_steps(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes] = ()) -> Steps[bytes]:
    """The same in steps. Neither state may change meanwhile."""
    rows = []
    added = removed = 0
    for count in counts(engine, a, b, paths):
        yield
        if count is None:
            continue
        name = quoted(count.path)
        if count.old_path is not None:
            name = quoted(count.old_path) + b" => " + name
        if count.added is None or count.removed is None:
            rows.append((name, f"binary, {human(count.old_size)} -> {human(count.new_size)}"))
        else:
            added, removed = added + count.added, removed + count.removed
            rows.append((name, f"+{count.added} -{count.removed}"))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [b" %b | %b\n" % (name.ljust(width), text.encode()) for name, text in rows]
    files = "1 file" if len(rows) == 1 else f"{len(rows)} files"
    return b"".join(lines) + f" {files} changed, +{added} -{removed} lines\n".encode()


def human(size: int) -> str:
    """A size in bytes for people."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        amount /= 1024
        if amount < 999.95 or unit == "PiB":
            break
    return f"{amount:.1f} {unit}"


def _pairs(engine: Engine, a: Layer, b: Layer, paths: Iterable[bytes]) -> Iterator[_Pair | None]:
    """The sections; None for a step without one."""
    before, after = Reader(engine, a), Reader(engine, b)
    for change in (yield from changes_in_steps(engine, a, b, paths, flat=True)):
        old_path = change.path if change.old_path is None else change.old_path
        old = _side(before, old_path, change.before)
        new = _side(after, change.path, change.after)
        remarks = _remarks(change, before, after)
        if old is None or new is None or change.kind != RETYPED:
            yield _Pair(old, new, remarks)
        else:
            yield _Pair(old, None, remarks)
            yield _Pair(None, new, [])


def _side(state: Reader, path: bytes, file: File | None) -> _Side | None:
    """A file for a patch; None for what a patch cannot hold."""
    if file is None:
        return None
    if file.type == S_IFLNK:
        target = state.target(file.ino)
        return _Side(path, _MODE_SYMLINK, len(target), target)
    if file.type != S_IFREG:
        return None
    mode = _MODE_PROGRAM if file.record.mode & S_IXUSR else _MODE_FILE
    return _Side(path, mode, file.record.size, _text(state, file))


def _text(state: Reader, file: File) -> bytes | None:
    """The content of a text file, None when it is not one."""
    size = file.record.size
    if size > TEXT_BYTES_MAX or b"\0" in state.content(file.ino, 0, min(size, BINARY_LOOK_BYTES)):
        return None
    return state.content(file.ino, 0, size)


def _section(old: _Side | None, new: _Side | None) -> Iterator[bytes]:
    """The part of a patch that is about one file."""
    header = _header(old, new)
    texts = (b"" if side is None else side.text for side in (old, new))
    if all(text is not None for text in texts):
        hunks = _hunks(_lines(old), _lines(new))
        first = next(hunks, None)
        while first == b"":
            yield first
            first = next(hunks, None)
        if old is None or new is None or first is not None:
            header += _objects(old, new)
        names = b"" if first is None else b"--- %b\n+++ %b\n" % (_named(b"a/", old), _named(b"b/", new))
        if header:
            yield _begin(old, new, alone=not names) + header + names
        if first is not None:
            yield from chain((first,), hunks)
    else:
        differ = b"Binary files %b and %b differ\n" % (_shown(b"a/", old), _shown(b"b/", new))
        yield _begin(old, new) + (header or _index(old, new)) + differ


def _index(old: _Side | None, new: _Side | None) -> bytes:
    """What tells `git apply` that this is a section and not a remark: without any header line it would pass over the
    binary file and apply the rest. Since the names are no objects of git, it refuses and says why."""
    sides = [b"a %r" % (old and old[:3],), b"b %r" % (new and new[:3],)]
    return b"index %b..%b\n" % tuple(digest(side).hex()[:7].encode() for side in sides)


def _objects(old: _Side | None, new: _Side | None) -> bytes:
    """The line with the names that git has for both contents."""
    line = b"index %b..%b" % (_object(old), _object(new))
    if old is not None and new is not None and old.mode == new.mode:
        line += b" %o" % new.mode
    return line + b"\n"


def _object(side: _Side | None) -> bytes:
    if side is None:
        return b"0" * _OBJECT_DIGITS
    assert side.text is not None
    blob = hashlib.sha1(b"blob %d\0" % len(side.text), usedforsecurity=False)
    blob.update(side.text)
    return blob.hexdigest()[:_OBJECT_DIGITS].encode()


def _begin(old: _Side | None, new: _Side | None, alone: bool = False) -> bytes:
    """The first line. When it stands `alone` for the names, blanks in them are quoted, as `patch` needs it."""
    first, second = old or new, new or old
    assert first is not None and second is not None
    name = quoted_blanks if alone else quoted
    return b"diff --git %b %b\n" % (name(b"a/" + first.path), name(b"b/" + second.path))


def _header(old: _Side | None, new: _Side | None) -> bytes:
    """What happens to a file besides its content."""
    if old is None:
        assert new is not None
        return b"new file mode %o\n" % new.mode
    if new is None:
        return b"deleted file mode %o\n" % old.mode
    header = b""
    if old.mode != new.mode:
        header = b"old mode %o\nnew mode %o\n" % (old.mode, new.mode)
    if old.path != new.path:
        header += b"rename from %b\nrename to %b\n" % (quoted(old.path), quoted(new.path))
    return header


def _named(prefix: bytes, side: _Side | None) -> bytes:
    return b"/dev/null" if side is None else header_name(prefix, side.path)


def _shown(prefix: bytes, side: _Side | None) -> bytes:
    return b"/dev/null" if side is None else quoted(prefix + side.path)


def _lines(side: _Side | None) -> list[bytes]:
    """The lines of a text, each with its newline; the last may lack it."""
    if side is None or not side.text:
        return []
    lines = [line + b"\n" for line in side.text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _hunks(old: list[bytes], new: list[bytes]) -> Iterator[bytes]:
    """The hunks that make `new` of `old`; empty ones for steps on the way to the first one."""
    matching = matching_in_steps(old, new)
    while True:
        try:
            next(matching)
        except StopIteration as stop:
            blocks: list[Block] = stop.value
            break
        yield b""
    for group in _groups(_edits(blocks, len(old), len(new))):
        low, start = max(group[0][0] - CONTEXT_LINES, 0), max(group[0][2] - CONTEXT_LINES, 0)
        high, end = min(group[-1][1] + CONTEXT_LINES, len(old)), min(group[-1][3] + CONTEXT_LINES, len(new))
        pieces = [b"@@ -%b +%b @@\n" % (_range(low, high), _range(start, end))]
        at = low
        for i, following, j, other in group:
            pieces += _marked(b" ", old[at:i])
            pieces += _marked(b"-", old[i:following])
            pieces += _marked(b"+", new[j:other])
            at = following
        pieces += _marked(b" ", old[at:high])
        yield b"".join(pieces)


_Edit = tuple[int, int, int, int]
"""Lines [0:1] of the old text were replaced by lines [2:3] of the new one."""


def _edits(blocks: list[Block], rows: int, columns: int) -> Iterator[_Edit]:
    i = j = 0
    for low, start, count in (*blocks, (rows, columns, 0)):
        if low > i or start > j:
            yield i, low, j, start
        i, j = low + count, start + count


def _groups(edits: Iterator[_Edit]) -> Iterator[list[_Edit]]:
    """Edits so near each other that they share their context."""
    group: list[_Edit] = []
    for edit in edits:
        if group and edit[0] - group[-1][1] > 2 * CONTEXT_LINES:
            yield group
            group = []
        group.append(edit)
    if group:
        yield group


def _range(start: int, end: int) -> bytes:
    """Lines as a hunk names them: counted from 1; where there are none, the line before."""
    if end - start == 1:
        return b"%d" % end
    return b"%d,%d" % (start + (end > start), end - start)


def _marked(mark: bytes, lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        yield mark + line if line.endswith(b"\n") else mark + line + b"\n" + _NO_NEWLINE


def _remarks(change: Change, before: Reader, after: Reader) -> list[bytes]:
    """What a patch cannot express, as lines that the tools pass over."""
    found = []
    path = quoted(change.path)
    files = [file for file in (change.before, change.after) if file is not None]
    if change.kind != MODIFIED and any(file.type not in (S_IFREG, S_IFLNK) for file in files):
        found.append(_place_remark(change))
    if "device" in change.what:
        found.append(b"heliosfs: device changed: %b\n" % path)
    if change.before is not None and change.after is not None and change.kind != RETYPED:
        old, new = change.before.record, change.after.record
        modes = S_IMODE(old.mode), S_IMODE(new.mode)
        if modes[0] != modes[1] and not all(mode in _PLAIN_MODES for mode in modes):
            found.append(b"heliosfs: mode %04o -> %04o: %b\n" % (*modes, path))
        if "owner" in change.what:
            found.append(b"heliosfs: owner %d:%d -> %d:%d: %b\n" % (old.uid, old.gid, new.uid, new.gid, path))
        if "xattrs" in change.what:
            found += _xattr_remarks(before.xattrs(change.before.ino), after.xattrs(change.after.ino), path)
    return found


_KINDS = {
    S_IFDIR: b"directory", S_IFIFO: b"fifo", S_IFSOCK: b"socket", S_IFCHR: b"device", S_IFBLK: b"device",
    S_IFREG: b"file", S_IFLNK: b"symlink",
}  # fmt: skip
_VERBS = {ADDED: b"added", DELETED: b"deleted", RETYPED: b"replaced"}


def _place_remark(change: Change) -> bytes:
    """That a directory or special file came, went or moved."""
    file = change.after or change.before
    assert file is not None
    what = _KINDS[file.type]
    if change.old_path is not None:
        return b"heliosfs: %b renamed: %b => %b\n" % (what, quoted(change.old_path), quoted(change.path))
    return b"heliosfs: %b %b: %b\n" % (what, _VERBS[change.kind], quoted(change.path))


def _xattr_remarks(old: dict[bytes, bytes], new: dict[bytes, bytes], path: bytes) -> list[bytes]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            verb = b"removed" if name not in new else b"changed" if name in old else b"added"
            found.append(b"heliosfs: attribute %b %b: %b\n" % (quoted(name), verb, path))
    return found
