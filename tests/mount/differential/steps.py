"""Programs from a seed: lists of steps that need no knowledge of what earlier ones did.

So any part of a program is a program too, which is what shrinking needs. Few names and few slots make the
steps meet each other often. No path can leave its tree: '..' only follows a name, and symbolic links lead
downwards.
"""

from __future__ import annotations

import fcntl
import os
import random
import stat
from collections.abc import Callable
from typing import Any

Step = list[Any]
"""[process, operation, arguments...]; a negative process stands for a disturbance of the mount alone."""

DISTURBANCE = -1
FILES = ["a", "b", "c"]
DIRECTORIES = ["d", "e"]
ODD_NAMES = ["\udcff\udcfe", "n" * 255]
XATTRS = ["user.a", "user.b", "user.c", "trusted.t"]
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
SLOTS = 3
MODES = [0o644, 0o755, 0o777, 0o600, 0o700, 0o000, 0o1777, 0o2755, 0o4755, 0o6777, 0o666]
OWNERS = [-1, 0, 1000, 65534]
USERS = [0, 1000, 65534]
SIZES = [0, 1, 10, 100, 4095, 4096, 4097, 20_000, 70_000, 200_000]
OFFSETS = [0, 1, 50, 4096, 5000, 65_536, 150_000, 1_000_000]
FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_APPEND,
    os.O_RDWR | os.O_APPEND | os.O_CREAT,
    os.O_WRONLY | os.O_TRUNC,
    os.O_RDWR | os.O_CREAT | os.O_SYNC,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_PATH,
]


class Generator:
    """Chooses steps; everything comes from one random source."""

    def __init__(self, seed: int, processes: int, acl: bool) -> None:
        self.choose = random.Random(seed)
        self.processes = processes
        self.table: list[tuple[int, Callable[[], Step]]] = [
            (22, self.open),
            (2, lambda: ["close", self.slot()]),
            (5, lambda: ["read", self.slot(), self.size()]),
            (6, lambda: ["pread", self.slot(), self.size(), self.offset()]),
            (8, lambda: ["write", self.slot(), self.seed(), self.size()]),
            (9, lambda: ["pwrite", self.slot(), self.seed(), self.size(), self.offset()]),
            (2, lambda: ["seek", self.slot(), self.offset(), self.choose.randrange(3)]),
            (5, lambda: ["ftruncate", self.slot(), self.offset()]),
            (3, lambda: ["fstat", self.slot()]),
            (1, lambda: ["fchmod", self.slot(), self.mode()]),
            (1, lambda: ["fchown", self.slot(), self.owner(), self.owner()]),
            (1, lambda: ["fsync", self.slot()]),
            (3, lambda: ["map_write", self.slot(), self.offset(), self.seed(), self.size()]),
            (2, lambda: ["map_read", self.slot()]),
            (3, lambda: ["map", self.slot(), self.slot()]),
            (3, lambda: ["map_store", self.slot(), self.offset(), self.seed(), self.size()]),
            (2, lambda: ["map_load", self.slot()]),
            (1, lambda: ["flock", self.slot(), self.choose.choice((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN))]),
            (1, lambda: ["lock", self.slot(), *self.lock()]),
            (1, lambda: ["test_lock", self.slot(), *self.lock()]),
            (1, lambda: ["append", self.slot(), self.choose.random() < 0.5]),
            (1, lambda: ["dup", self.slot(), self.slot()]),
            (1, lambda: ["fdatasync", self.slot()]),
            (1, lambda: ["send", self.slot(), self.slot(), self.offset(), self.size()]),
            (1, lambda: ["link_open", self.slot(), self.path("file")]),
            (1, lambda: ["chdir", self.path("directory")]),
            (2, lambda: ["home"]),
            (1, lambda: ["getcwd"]),
            (2, lambda: ["copy_range", self.slot(), self.slot(), self.size(), self.offset(), self.offset()]),
            (2, lambda: ["list_at", self.slot()]),
            (2, lambda: ["mkdir_at", self.slot(), self.path("directory"), self.directory_mode()]),
            (1, lambda: ["unlink_at", self.slot(), self.path("file")]),
            (1, lambda: ["stat_at", self.slot(), self.path()]),
            (1, lambda: ["rename_at", self.slot(), self.path(), self.path()]),
            (1, lambda: ["open_at", self.slot(), self.slot(), self.path(), self.flags(), self.mode()]),
            (3, lambda: ["truncate", self.path("file"), self.offset()]),
            (3, lambda: ["stat", self.path()]),
            (2, lambda: ["lstat", self.path()]),
            (1, lambda: ["access", self.path(), self.choose.randrange(8)]),
            (8, lambda: ["mkdir", self.path("directory"), self.directory_mode()]),
            (3, lambda: ["rmdir", self.path("directory")]),
            (4, lambda: ["unlink", self.path("file")]),
            (8, lambda: ["rename", *self.two_paths()]),
            (3, lambda: ["renameat2", *self.two_paths(), self.choose.choice((1, 2, 2, 2, 2, 3))]),
            (5, lambda: ["link", self.path("file"), self.path("file")]),
            (3, lambda: ["symlink", self.target(), self.path()]),
            (1, lambda: ["readlink", self.path()]),
            (1, self.mknod),
            (3, lambda: ["chmod", self.path("file"), self.mode()]),
            (1, lambda: ["chmod", self.path("directory"), self.directory_mode()]),
            (2, lambda: ["lchown", self.path(), self.owner(), self.owner()]),
            (2, lambda: ["utime", self.path(), self.moment(), self.moment()]),
            (1, lambda: ["touch", self.path()]),
            (2, lambda: ["utimens", self.path(), self.moment_of(), self.moment_of()]),
            (1, lambda: ["umask", self.choose.choice((0, 0o022, 0o027, 0o077))]),
            (
                3,
                lambda: [
                    "setxattr",
                    self.path(),
                    self.xattr(),
                    self.seed(),
                    self.small(),
                    self.xattr_flags(),
                ],
            ),
            (2, lambda: ["getxattr", self.path(), self.xattr()]),
            (1, lambda: ["listxattr", self.path()]),
            (1, lambda: ["removexattr", self.path(), self.xattr()]),
            (3, lambda: ["listdir", self.choose.choice((".", self.path("directory")))]),
            (2, self.timed),
        ]
        if acl:
            self.table[-1:-1] = [
                (8, lambda: ["setacl", self.path(), self.acl_name(), self.acl()]),
                (4, lambda: ["setacl", self.path("directory"), "default", self.acl()]),
                (2, lambda: ["getacl", self.path(), self.acl_name()]),
                (2, lambda: ["removeacl", self.path(), self.acl_name()]),
            ]
        self.makers = [maker for _, maker in self.table]
        self.weights = [weight for weight, _ in self.table]

    def step(self) -> Step:
        return [self.process(), *self.choose.choices(self.makers, self.weights)[0]()]

    def process(self) -> int:
        """Mostly the first, which has all rights: the others are to be refused often."""
        return 0 if self.choose.randrange(10) < 6 else self.choose.randrange(self.processes)

    def path(self, kind: str = "any") -> str:
        """Mostly of its kind: files and directories have their own names, so that most steps succeed."""
        if kind == "any":
            kind = self.choose.choice(("file", "file", "directory"))
        names = FILES if kind == "file" else DIRECTORIES
        parts = [self.choose.choice(DIRECTORIES) for _ in range(self.choose.choice((0, 0, 0, 1, 1, 2)))]
        odd = self.choose.randrange(60)
        if odd < 4:
            names = FILES + DIRECTORIES + ODD_NAMES
        elif odd < 6:
            parts.append(self.choose.choice(FILES))
        parts.append(self.choose.choice(names))
        if odd > 57:
            parts.append(self.choose.choice(("..", ".", "")))
        elif odd == 57:
            parts.insert(0, ".")
        return "/".join(parts)

    def target(self) -> str:
        return self.choose.choice(FILES + DIRECTORIES + ["d/a", "d/e", "e/b"])

    def open(self) -> Step:
        flags = self.flags()
        kind = "directory" if flags & os.O_DIRECTORY else "file"
        return ["open", self.slot(), self.path(kind), flags, self.mode()]

    def two_paths(self) -> tuple[str, str]:
        kind = self.choose.choice(("file", "file", "directory", "any"))
        return self.path(kind), self.path(kind)

    def directory_mode(self) -> int:
        """Mostly open to all: behind a closed directory nothing happens any more."""
        return self.choose.choice((0o777, 0o777, 0o777, 0o2777, self.mode()))

    def mknod(self) -> Step:
        kind, device = self.choose.choice(
            ((stat.S_IFREG, 0), (stat.S_IFIFO, 0), (stat.S_IFSOCK, 0), (stat.S_IFCHR, os.makedev(1, 3)))
        )
        return ["mknod", self.path(), kind | self.mode(), device]

    def timed(self) -> Step:
        inner = self.choose.choices(self.makers[:-1], self.weights[:-1])[0]()
        paths = [argument for argument in inner[1:] if isinstance(argument, str)]
        watched = paths[0] if paths else self.path()
        if self.choose.randrange(2) and "/" in watched.strip("/."):
            watched = watched.rsplit("/", 1)[0] or "."
        return ["timed", watched, inner]

    def acl_name(self) -> str:
        return self.choose.choice(("access", "access", "default"))

    def acl(self) -> list[list[int]]:
        """Entries of tag, permissions and id; now and then a list that is none."""
        tags = [1] + [2] * self.choose.choice((0, 0, 1, 2)) + [4] + [8] * self.choose.choice((0, 0, 1))
        if len(tags) > 2 or self.choose.randrange(3) == 0:
            tags.append(16)
        tags.append(32)
        if self.choose.randrange(20) == 0:
            tags.remove(self.choose.choice(tags))
        return [[tag, self.choose.choice((0, 4, 5, 6, 7, 7)), self.choose.choice(USERS)] for tag in tags]

    def lock(self) -> tuple[int, int, int]:
        kind = self.choose.choice((fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK))
        return kind, self.choose.choice((0, 10, 100)), self.choose.choice((0, 10, 50))

    def slot(self) -> int:
        return self.choose.randrange(SLOTS)

    def seed(self) -> int:
        return self.choose.randrange(1000)

    def size(self) -> int:
        return self.choose.choice(SIZES)

    def small(self) -> int:
        return self.choose.choice((0, 1, 20, 300))

    def offset(self) -> int:
        return self.choose.choice(OFFSETS)

    def mode(self) -> int:
        return self.choose.choice(MODES)

    def owner(self) -> int:
        return self.choose.choice(OWNERS)

    def flags(self) -> int:
        return self.choose.choice(FLAGS)

    def xattr(self) -> str:
        return self.choose.choice(XATTRS)

    def xattr_flags(self) -> int:
        return self.choose.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))

    def moment(self) -> int:
        return self.choose.randrange(-(10**18), 14 * 10**17)

    def moment_of(self) -> list[int]:
        """Seconds and nanoseconds for utimensat: a moment, now, or what it is already."""
        nanoseconds = self.choose.choice((UTIME_NOW, UTIME_OMIT, self.choose.randrange(10**9)))
        return [self.choose.randrange(-(10**9), 14 * 10**8), nanoseconds]


def program(
    seed: int, length: int, processes: int = 3, disturb: bool = False, acl: bool = False
) -> list[Step]:
    """A program of so many steps; disturbances come on top and leave the other steps as they would be.

    With `acl` it sets access control lists as well, for a mount that has them.
    """
    generator = Generator(seed, processes, acl)
    disturber = random.Random(seed + 1)
    steps: list[Step] = []
    for number in range(length):
        steps.append(generator.step())
        if disturb and disturber.randrange(12) == 0:
            kind = disturber.choice(
                ("snapshot", "snapshot", "fork", "write in fork", "drop", "sync", "go back", "remount", "kill")
            )
            if kind in ("remount", "kill") and disturber.randrange(8):
                kind = "snapshot"
            steps.append([DISTURBANCE, kind, number])
    return steps
