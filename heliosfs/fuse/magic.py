"""The reserved names of a tree root: what they are called, their inode numbers and their modes.

They are found by name and not listed, so that find, grep -r, git add and rm -rf do not walk into them.
"""

from stat import S_IFDIR, S_IFREG
from typing import Final

SNAPSHOTS: Final = 2
BRANCHES: Final = 3
CONTROL: Final = 4
STATUS: Final = 5
LOG: Final = 6
CHANGES: Final = 7
DIFF: Final = 8
RESTORE: Final = 9
UNDO: Final = 10
MERGE: Final = 11
CALL: Final = 12
AUTO: Final = 13

ROOT_NAMES: Final = {b".snapshots": SNAPSHOTS, b".branches": BRANCHES, b".heliosfs": CONTROL}
"""In every tree root."""
AUTO_NAME: Final = b".auto"
"""In .snapshots, not listed: the states that are kept by themselves."""
CONTROL_NAMES: Final = {
    b"status": STATUS,
    b"log": LOG,
    b"changes": CHANGES,
    b"diff": DIFF,
    b"restore": RESTORE,
    b"undo": UNDO,
    b"merge": MERGE,
    b"call": CALL,
}
"""In .heliosfs of every tree root."""

CONTAINERS: Final = (SNAPSHOTS, BRANCHES, AUTO)
"""Owner and mode of these are those of their tree's root directory."""
REPORTS: Final = (CHANGES, DIFF)
"""Directories in which every A..B is a file. For the owner alone: a report shows what is in files, whoever
may read those."""
VERBS: Final = {RESTORE: "restore", UNDO: "undo", MERGE: "merge"}
"""Files that take a word and do something."""

MODES: Final = {
    CONTROL: S_IFDIR | 0o555,
    STATUS: S_IFREG | 0o444,
    LOG: S_IFREG | 0o444,
    CHANGES: S_IFDIR | 0o500,
    DIFF: S_IFDIR | 0o500,
    RESTORE: S_IFREG | 0o200,
    UNDO: S_IFREG | 0o200,
    MERGE: S_IFREG | 0o200,
    CALL: S_IFREG | 0o666,
}
REPORT_MODE: Final = S_IFREG | 0o400


def is_reserved_name(name: bytes) -> bool:
    """Whether a name means something else than a file in a tree root."""
    return name in ROOT_NAMES
