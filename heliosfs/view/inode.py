"""An inode in memory: the decoded INODE record, and what the floors above note on it."""

from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG
from typing import TYPE_CHECKING, NamedTuple

from heliosfs.base.records import decode_inode, encode_inode
from heliosfs.layers.layer import Layer

if TYPE_CHECKING:
    from heliosfs.view.view import View


class Caller(NamedTuple):
    """Who asks: the ids that new files belong to, the process (in fact thread) id and its command name."""

    uid: int
    gid: int
    pid: int
    command: bytes = b""


class Inode:
    """One file, directory or special file of one view.

    `attributes` is a cache of the floor above; the view drops it whenever a field changes. `lookups` and `opens`
    are counted by the floor above as well; while one of them is not 0 the inode stays in memory.
    `orphan` is set once the last name is gone: a private layer with its content. `removals` counts how often that
    came about by a call (and not by a switch to another state) while the inode was held.
    """

    __slots__ = (
        "allocated", "atime", "attributes", "ctime", "gid", "ino", "lookups", "mode", "mtime", "nlink", "opens",
        "orphan", "rdev", "removals", "size", "uid", "view",
    )  # fmt: skip

    def __init__(self, view: "View", ino: int) -> None:
        self.view = view
        self.ino = ino
        self.mode = self.uid = self.gid = self.nlink = self.size = self.allocated = self.rdev = 0
        self.atime = self.mtime = self.ctime = 0
        self.attributes: object | None = None
        self.lookups = 0
        self.opens = 0
        self.orphan: Layer | None = None
        self.removals = 0

    def __repr__(self) -> str:
        return f"<Inode {self.view.number}:{self.ino} {self.mode:o}>"

    def encode(self) -> bytes:
        """The INODE record."""
        return encode_inode((
            self.mode, self.uid, self.gid, self.nlink, self.size, self.allocated, self.atime, self.mtime, self.ctime,
            self.rdev,
        ))  # fmt: skip

    def decode(self, record: bytes) -> None:
        """Take the fields of an INODE record."""
        (
            self.mode, self.uid, self.gid, self.nlink, self.size, self.allocated, self.atime, self.mtime, self.ctime,
            self.rdev,
        ) = decode_inode(record)  # fmt: skip
        self.attributes = None

    def copy(self, view: "View") -> "Inode":
        """The same inode as another view has it, which shows the same state. Nobody holds it yet."""
        other = Inode(view, self.ino)
        other.decode(self.encode())
        return other

    @property
    def is_directory(self) -> bool:
        return S_IFMT(self.mode) == S_IFDIR

    @property
    def is_file(self) -> bool:
        return S_IFMT(self.mode) == S_IFREG

    @property
    def is_symlink(self) -> bool:
        return S_IFMT(self.mode) == S_IFLNK
