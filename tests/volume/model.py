"""A plain model of a tree, to compare a view with: dictionaries and byte strings, copied whole for every state."""

import copy
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from heliosfs.base.keys import ROOT_INO
from heliosfs.view.view import View


class ModelFile:
    """Anything with an inode: `entries` for directories, `data` for files, `target` for symbolic links."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.data = b""
        self.target = b""
        self.entries: dict[bytes, int] = {}
        self.xattrs: dict[bytes, bytes] = {}


class ModelTree:
    """A tree: files by number. Numbers are those of the view, so identity is compared as well."""

    def __init__(self) -> None:
        self.files: dict[int, ModelFile] = {ROOT_INO: ModelFile(S_IFDIR | 0o755)}

    def copy(self) -> "ModelTree":
        return copy.deepcopy(self)

    def links(self, ino: int) -> int:
        return sum(child == ino for file in self.files.values() for child in file.entries.values())

    def drop_if_unlinked(self, ino: int) -> None:
        if ino != ROOT_INO and not self.links(ino):
            del self.files[ino]

    def directories(self) -> list[int]:
        return sorted(ino for ino, file in self.files.items() if S_IFMT(file.mode) == S_IFDIR)

    def regular(self) -> list[int]:
        return sorted(ino for ino, file in self.files.items() if S_IFMT(file.mode) == S_IFREG)

    def names(self) -> list[tuple[int, bytes]]:
        return sorted((ino, name) for ino, file in self.files.items() for name in file.entries)

    def is_below(self, ino: int, ancestor: int) -> bool:
        """Whether `ino` is `ancestor` or inside it."""
        if ino == ancestor:
            return True
        return any(self.is_below(ino, child) for child in self.files[ancestor].entries.values())


def compare(view: View, tree: ModelTree) -> None:
    """Assert that a view shows just what the model says."""
    seen: set[int] = set()
    pending = [ROOT_INO]
    while pending:
        ino = pending.pop()
        if ino in seen:
            continue
        seen.add(ino)
        file, inode = tree.files[ino], view.inode(ino)
        assert inode.mode == file.mode, (inode, oct(file.mode))
        assert {name: view.get_xattr(inode, name) for name in view.list_xattrs(inode)} == file.xattrs
        kind = S_IFMT(file.mode)
        if kind == S_IFDIR:
            entries = view.entries(inode)
            assert {name: child for name, child, _ in entries} == file.entries
            assert [name for name, _, _ in entries] == sorted(file.entries)
            subdirectories = sum(S_IFMT(tree.files[child].mode) == S_IFDIR for child in file.entries.values())
            assert inode.nlink == 2 + subdirectories
            for name, child in file.entries.items():
                found = view.lookup(inode, name)
                assert found is not None and found.ino == child
            pending.extend(file.entries.values())
        elif kind == S_IFREG:
            assert inode.size == len(file.data)
            assert bytes(view.read(inode, 0, inode.size + 10)) == file.data
            assert inode.nlink == tree.links(ino)
            held = sum(high - low for low, high in view.data_ranges(inode))
            assert inode.allocated == held, (inode.allocated, held)
            assert held >= len(file.data) - file.data.count(0)
        elif kind == S_IFLNK:
            assert view.readlink(inode) == file.target
        paths = view.paths(ino)
        assert len(paths) == (1 if kind == S_IFDIR else tree.links(ino))
        assert all(view.resolve(path).ino == ino for path in paths)
    assert seen == tree.files.keys()
