"""Merging one file or directory that two sides changed, part by part: content, mode, owner, extended attributes."""

from stat import S_IFMT, S_IFREG, S_IMODE
from typing import TypeVar

from heliosfs.base.steps import Steps
from heliosfs.layers import stack
from heliosfs.view.inode import Inode
from heliosfs.view.view import View
from heliosfs.volume.conflicts import ATTRIBUTES, CONTENT, TYPE, foreign
from heliosfs.volume.reader import Reader
from heliosfs.volume.sides import Slot, differences, is_directory
from heliosfs.volume.text_merge import TEXT_BYTES_MAX, is_text, merge_in_steps

Value = TypeVar("Value")


class InodeMerge:
    """Merges into `view` what `their` made of the base; `mine` is what the view showed at first."""

    def __init__(self, view: View, base: Reader, mine: Reader, their: Reader, stamp: int) -> None:
        self._view = view
        self._base = base
        self._mine = mine
        self._their = their
        self._stamp = stamp
        """The modification time of what changes: all the same, so that none seems older than what was made of it."""

    def merge(self, place: Slot | None, old: int | None, ours: int, theirs: int) -> Steps[tuple[int, list[str]]]:
        """Bring in what they changed, in steps; the inode that is ours since, and the kinds of conflict.

        `old` is None for a directory that both made.

        `place` is where ours is in the view. An inode of theirs that is not the one of the base takes the place of
        ours where ours is as it was.
        """
        if not differences(self._mine, ours, self._their, theirs):
            return ours, []
        if old is None:
            return ours, [ATTRIBUTES]
        changed = differences(self._base, old, self._their, theirs)
        if not changed:
            return ours, []
        kept = differences(self._base, old, self._mine, ours)
        can_replace = (
            place is not None
            and theirs != old
            and not is_directory(self._their, theirs)
            and stack.find_inode(self._view.engine.tree, self._view.top, theirs) is None
        )
        if can_replace and not kept:
            assert place is not None
            return self._replace(place, theirs).ino, []
        if S_IFMT(self._mine.existing(ours).mode) != S_IFMT(self._their.existing(theirs).mode):
            return ours, [TYPE]
        inode = self._view.inode(ours)
        conflicts: list[str] = []
        if "content" in changed:
            content = yield from self._merged(old, ours, theirs, "content" in kept)
            if content is None:
                conflicts.append(CONTENT)
            else:
                inode = self._put(inode, place if can_replace else None, theirs, content)
        if not self._merge_attributes(inode, old, ours, theirs):
            conflicts.append(ATTRIBUTES)
        return inode.ino, conflicts

    def _merged(self, old: int, ours: int, theirs: int, both: bool) -> Steps[bytes | bool | None]:
        """The content that a file gets: bytes, True for theirs, False for ours as it is; None in a conflict."""
        if not both:
            return True
        if "content" not in differences(self._mine, ours, self._their, theirs):
            return False
        versions = ((self._base, old), (self._mine, ours), (self._their, theirs))
        records = [reader.existing(ino) for reader, ino in versions]
        if any(S_IFMT(record.mode) != S_IFREG or record.size > TEXT_BYTES_MAX for record in records):
            return None
        texts = [reader.content(ino, 0, record.size) for (reader, ino), record in zip(versions, records, strict=True)]
        if not all(map(is_text, texts)):
            return None
        return (yield from merge_in_steps(*texts))

    def _put(self, inode: Inode, place: Slot | None, theirs: int, content: bytes | bool) -> Inode:
        """Give a file its content. Other names of it keep theirs, if they replaced the file under this one."""
        if content is False:
            return inode
        if place is not None and (inode.nlink > 1 or not inode.is_file):
            inode = self._replace(place, theirs)
        elif content is True:
            self._view.take_content(inode, foreign(self._their, theirs), self._stamp)
        if isinstance(content, bytes):
            self._view.set_attributes(inode, size=0)
            self._view.write(inode, 0, content)
        return inode

    def _replace(self, place: Slot, theirs: int) -> Inode:
        """Put an inode of theirs in the place of ours."""
        parent = self._view.inode(place[0])
        self._view.unlink(parent, place[1])
        inode = self._view.adopt(parent, place[1], foreign(self._their, theirs))
        self._view.set_attributes(inode, mtime=self._stamp)
        return inode

    def _merge_attributes(self, inode: Inode, old: int, ours: int, theirs: int) -> bool:
        """Field by field; whether all could be decided. What could not stays ours."""
        records = (self._base.existing(old), self._mine.existing(ours), self._their.existing(theirs))
        decided = _Decided()
        mode = decided.one_of(*(S_IMODE(record.mode) for record in records))
        uid = decided.one_of(*(record.uid for record in records))
        gid = decided.one_of(*(record.gid for record in records))
        versions = (self._base.xattrs(old), self._mine.xattrs(ours), self._their.xattrs(theirs))
        present = {name: self._view.get_xattr(inode, name) for name in self._view.list_xattrs(inode)}
        for name in sorted({*versions[0], *versions[1], *versions[2]}):
            value = decided.one_of(*(each.get(name) for each in versions))
            if value is not None and present.get(name) != value:
                self._view.set_xattr(inode, name, value)
            elif value is None and name in present:
                self._view.remove_xattr(inode, name)
        # After the access control lists, which say something of the mode as well.
        if (mode, uid, gid) != (S_IMODE(inode.mode), inode.uid, inode.gid):
            self._view.set_attributes(inode, mode=mode, uid=uid, gid=gid)
        return decided.all


class _Decided:
    """Three-way decisions, and whether all of them were possible."""

    def __init__(self) -> None:
        self.all = True

    def one_of(self, base: Value, ours: Value, theirs: Value) -> Value:
        if theirs in (base, ours):
            return ours
        if ours != base:
            self.all = False
            return ours
        return theirs
