"""The trees that the kernel has entered: branches and snapshots by the numbers of their views."""

import errno
from collections.abc import Mapping

import trio

from heliosfs.base.clock import now
from heliosfs.base.errors import Refusal
from heliosfs.fuse import magic, mount_table
from heliosfs.fuse.mount_watch import MountWatch
from heliosfs.fuse.numbers import pack
from heliosfs.view.inode import Inode
from heliosfs.view.view import View
from heliosfs.volume.branch import Branch, Snapshot
from heliosfs.volume.volume import Volume

Source = Branch | Snapshot


class Tree:
    """One branch or snapshot with its view."""

    __slots__ = ("_changed", "source", "view")

    def __init__(self, source: Source, view: View) -> None:
        self.source = source
        self.view = view
        self._changed: dict[int, int] = {}

    def note_change(self, container: int) -> None:
        """Something was made, renamed or removed in .snapshots or .branches."""
        self._changed[container] = now()

    def changed_at(self, container: int) -> int:
        """When that was, as far as this mount knows."""
        return self._changed.get(container, self.source.created)

    @property
    def root(self) -> Inode:
        return self.view.root

    def owner(self) -> Branch:
        """The branch itself, or the one that a snapshot belongs to."""
        return self.source.branch if isinstance(self.source, Snapshot) else self.source

    def branch(self) -> Branch:
        """The branch; EROFS for a snapshot, of which there are no snapshots."""
        if isinstance(self.source, Snapshot):
            raise Refusal(errno.EROFS, f"{text(self.source.name)!r} is a snapshot, which stays as it is")
        return self.source

    def snapshots(self) -> dict[bytes, Snapshot]:
        return {} if isinstance(self.source, Snapshot) else self.source.snapshots

    def timed(self) -> dict[bytes, Snapshot]:
        """The states that were kept by themselves."""
        return {} if isinstance(self.source, Snapshot) else self.source.timed

    def members(self, container: int) -> Mapping[bytes, Source]:
        """What is in .snapshots, .snapshots/.auto or .branches."""
        if container == magic.BRANCHES:
            return self.children()
        return self.snapshots() if container == magic.SNAPSHOTS else self.timed()

    def children(self) -> dict[bytes, Branch]:
        """The branches forked from here. A snapshot shows those that began with its very state."""
        source = self.source
        if isinstance(source, Branch):
            return source.children
        return {name: child for name, child in source.branch.children.items() if child.record.base == source.state.id}


class Trees:
    """Finds trees, by view number or as members of another tree."""

    def __init__(self, volume: Volume, mounted: Branch) -> None:
        self.mounted = mounted
        self.device = ""
        """major:minor of the mount, once it is mounted."""
        self._watch: MountWatch | None = None
        self._volume = volume
        self._entered: dict[int, Tree] = {mounted.view.number: Tree(mounted, mounted.view)}

    def get(self, view_number: int) -> Tree:
        """The tree whose view has this number; ESTALE when it is gone."""
        tree = self._entered.get(view_number)
        if tree is None:
            raise Refusal(errno.ESTALE)
        return tree

    def of(self, view: View) -> Tree:
        """The tree of a view that the kernel has entered."""
        return self.get(view.number)

    def add(self, source: Source) -> Tree:
        """The tree of a branch or snapshot, from now on found by its number."""
        view = self._volume.view_of(source)
        tree = self._entered.get(view.number)
        if tree is None or tree.view is not view:
            tree = self._entered[view.number] = Tree(source, view)
        return tree

    def member(self, tree: Tree, container: int, name: bytes) -> Tree | None:
        """A snapshot or branch by its name in .snapshots or .branches of a tree."""
        source = tree.members(container).get(name)
        return None if source is None else self.add(source)

    def released(self, view: View) -> None:
        """The kernel holds nothing of a view any more."""
        if view is not self.mounted.view:
            self._entered.pop(view.number, None)
            self._volume.release_view(view)

    def container(self, source: Source) -> tuple[Tree, int]:
        """The tree and the reserved directory in which a tree is a member."""
        if isinstance(source, Snapshot):
            return self.add(source.branch), magic.AUTO if source.timed else magic.SNAPSHOTS
        assert source.parent is not None
        return self.add(source.parent), magic.BRANCHES

    async def check_not_mounted(self, branch: Branch) -> None:
        """EBUSY while a branch, or a directory in it, is mounted by itself somewhere."""
        path = self._path(branch)
        if path is None or not self.device:
            return
        if self._watch is None:
            self._watch = MountWatch(self.device)
        if self._watch.nothing():
            return
        roots = await trio.to_thread.run_sync(self._watch.read)
        if mount_table.is_in_or_below(roots, path):
            what = f"the branch {text(branch.name)!r} is mounted elsewhere too, as for a sandbox"
            raise Refusal(errno.EBUSY, f"{what}: unmount it there first")

    def _path(self, source: Source) -> bytes | None:
        """The path of a tree from the root of the mount; None when it is not below that."""
        if source is self.mounted:
            return b""
        if isinstance(source, Snapshot):
            auto = magic.AUTO_NAME + b"/" if source.timed else b""
            above, container, name = source.branch, b"/.snapshots/" + auto, source.name
        elif source.parent is None:
            return None
        else:
            above, container, name = source.parent, b"/.branches/", source.name
        path = self._path(above)
        return None if path is None else path + container + name


def top_inode(tree: Tree) -> Inode:
    """What a member's name leads to: the root of the tree, or the file of a snapshot that is one file."""
    source = tree.source
    if isinstance(source, Snapshot) and source.file:
        return tree.view.inode(source.file)
    return tree.view.root


def container_number(tree: Tree, container: int) -> int:
    """The kernel's number of .snapshots or .branches of a tree."""
    return pack(tree.view.number, container)


def text(name: bytes) -> str:
    """A name as it stands in JSON and in messages."""
    return name.decode("utf-8", "surrogateescape")


def name_of(text: str) -> bytes:
    """The other way."""
    return text.encode("utf-8", "surrogateescape")
