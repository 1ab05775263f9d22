"""One process that carries out steps in its working directory and tells the outcome of each.

Run by its path, as root or as another user, with one JSON step a line on its standard input; imports nothing
of ours. An outcome is what a program could tell: a value or the name of an errno, never an inode number or a
clock.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import random
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

CLOCK_TICK_SECONDS = 0.02
NAMELESS_SECONDS = 0.5
SET_TIMES_BELOW_NS = 1_500_000_000 * 10**9
"""Times before this moment were set by a step, and compare exactly; later ones are the clock's."""

libc = ctypes.CDLL(None, use_errno=True)
descriptors: dict[int, int] = {}
mappings: dict[int, tuple[mmap.mmap, int]] = {}
"""Each with a descriptor of its file, which stays open for it."""
home = os.open(".", os.O_RDONLY | os.O_DIRECTORY)


def current_directory() -> str:
    """A switch in any tree makes the kernel look every name up again, and between its forgetting the name of a
    directory and hearing of it again that directory has none: see docs/conformance.md. So it is asked twice."""
    deadline = time.monotonic() + NAMELESS_SECONDS
    while True:
        try:
            return os.getcwd()
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise


home_path = current_directory()

SET_IDS = stat.S_ISUID | stat.S_ISGID
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
FLOCK = "hhqqi"


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size) if seed % 3 else bytes([seed % 256]) * size


def told(data: bytes) -> str:
    """Content as it is compared and shown: short ones whole."""
    if len(data) <= 24:
        return repr(data)
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def status(found: os.stat_result) -> dict[str, Any]:
    kind = stat.S_IFMT(found.st_mode)
    changed = found.st_mtime_ns if found.st_mtime_ns < SET_TIMES_BELOW_NS else "now"
    return {
        "mode": oct(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "nlink": found.st_nlink,
        "size": None if kind == stat.S_IFDIR else found.st_size,
        "rdev": found.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        # FUSE's kernel side does not move a fifo's times when it is written, other filesystems do.
        "mtime": None if kind == stat.S_IFIFO else changed,
    }


def descriptor_of(slot: int) -> int:
    """The open file in a slot; an empty slot is a bad descriptor."""
    if slot not in descriptors:
        raise OSError(errno.EBADF, "the slot is empty")
    return descriptors[slot]


def keep(slot: int, descriptor: int) -> None:
    if slot in descriptors:
        os.close(descriptors[slot])
    descriptors[slot] = descriptor


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "a call of libc")


def do_open(slot: int, path: str, flags: int, mode: int) -> None:
    # A fifo must not make anybody wait.
    keep(slot, os.open(path, flags | os.O_NONBLOCK, mode))


def do_open_at(slot: int, directory: int, path: str, flags: int, mode: int) -> None:
    keep(slot, os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=descriptor_of(directory)))


def do_close(slot: int) -> None:
    os.close(descriptor_of(slot))
    del descriptors[slot]


def do_seek(slot: int, offset: int, how: int) -> int:
    """Positions in a directory mean nothing to anybody but its filesystem."""
    descriptor = descriptor_of(slot)
    return 0 if stat.S_ISDIR(os.fstat(descriptor).st_mode) else os.lseek(descriptor, offset, how)


def do_renameat2(source: str, target: str, flags: int) -> None:
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags))


def do_map_write(slot: int, offset: int, seed: int, size: int) -> int:
    """Write through a shared mapping, inside the file as it is now.

    Not if it has set-id bits: pyfuse3 does not tell from whom pages of a mapping are, so they go as on a write.
    """
    descriptor = descriptor_of(slot)
    found = os.fstat(descriptor)
    length = found.st_size
    if not stat.S_ISREG(found.st_mode) or found.st_mode & SET_IDS or offset >= length:
        return 0
    data = content(seed, min(size, length - offset))
    with mmap.mmap(descriptor, length) as mapping:
        mapping[offset : offset + len(data)] = data
        mapping.flush()
    return len(data)


def do_map_read(slot: int) -> str:
    descriptor = descriptor_of(slot)
    length = os.fstat(descriptor).st_size
    if not stat.S_ISREG(os.fstat(descriptor).st_mode) or length == 0:
        return "nothing"
    with mmap.mmap(descriptor, length, prot=mmap.PROT_READ) as mapping:
        return told(bytes(mapping))


def do_forget_unlinked() -> None:
    for slot, descriptor in list(descriptors.items()):
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptors.pop(slot))
    for slot, (mapping, descriptor) in list(mappings.items()):
        if os.fstat(descriptor).st_nlink == 0:
            del mappings[slot]
            mapping.close()
            os.close(descriptor)
    if os.stat(".").st_nlink == 0:
        os.fchdir(home)


def do_map(slot: int, mapping: int) -> int:
    """A mapping that stays, also when the file is renamed, unlinked or closed."""
    descriptor = descriptor_of(slot)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        return 0
    made = mmap.mmap(descriptor, found.st_size)
    if mapping in mappings:
        old, its = mappings.pop(mapping)
        old.close()
        os.close(its)
    mappings[mapping] = made, os.dup(descriptor)
    return found.st_size


def mapping_of(slot: int) -> tuple[mmap.mmap, int, int]:
    """A kept mapping, how far it may be touched (beyond the end of the file is SIGBUS), and the file's mode."""
    if slot not in mappings:
        raise OSError(errno.EBADF, "nothing is mapped")
    mapping, descriptor = mappings[slot]
    found = os.fstat(descriptor)
    return mapping, min(len(mapping), found.st_size), found.st_mode


def do_map_store(slot: int, offset: int, seed: int, size: int) -> int:
    mapping, end, mode = mapping_of(slot)
    if mode & SET_IDS:
        return 0
    data = content(seed, max(0, min(size, end - offset)))
    mapping[offset : offset + len(data)] = data
    mapping.flush()
    return len(data)


def do_map_load(slot: int) -> str:
    mapping, end, _ = mapping_of(slot)
    return told(mapping[:end])


def do_lock(slot: int, kind: int, start: int, length: int) -> None:
    """A lock of the process on a range, without waiting."""
    fcntl.fcntl(descriptor_of(slot), fcntl.F_SETLK, struct.pack(FLOCK, kind, os.SEEK_SET, start, length, 0))


def do_test_lock(slot: int, kind: int, start: int, length: int) -> tuple[int, ...]:
    """Which lock of another process would be in the way."""
    found = fcntl.fcntl(descriptor_of(slot), fcntl.F_GETLK, struct.pack(FLOCK, kind, os.SEEK_SET, start, length, 0))
    return tuple(struct.unpack(FLOCK, found)[:4])


def do_append(slot: int, on: bool) -> None:
    flags = fcntl.fcntl(descriptor_of(slot), fcntl.F_GETFL)
    fcntl.fcntl(descriptor_of(slot), fcntl.F_SETFL, flags | os.O_APPEND if on else flags & ~os.O_APPEND)


def do_utimens(path: str, access: list[int], change: list[int]) -> list[int | None]:
    """Each time as (seconds, nanoseconds), where nanoseconds may ask for now, or for no change."""
    given = struct.pack("qqqq", *access, *change)
    checked(libc.utimensat(AT_FDCWD, os.fsencode(path), given, AT_SYMLINK_NOFOLLOW))
    found = os.lstat(path)
    seen = (found.st_atime_ns, found.st_mtime_ns)
    return [when if exact[1] < 10**9 else None for when, exact in zip(seen, (access, change), strict=True)]


def do_utime(path: str, access: int, change: int) -> list[int]:
    os.utime(path, ns=(access, change), follow_symlinks=False)
    found = os.lstat(path)
    return [found.st_atime_ns, found.st_mtime_ns]


def do_link_open(slot: int, target: str) -> None:
    """Another name for an open file, which may have lost all it had."""
    source = f"/proc/self/fd/{descriptor_of(slot)}".encode()
    checked(libc.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(target), AT_SYMLINK_FOLLOW))


def do_getcwd() -> str:
    return current_directory().removeprefix(home_path)


def do_copy_range(source: int, target: int, size: int, source_offset: int, target_offset: int) -> int:
    return os.copy_file_range(descriptor_of(source), descriptor_of(target), size, source_offset, target_offset)


def acl_attribute(name: str) -> str:
    return f"system.posix_acl_{name}"


def do_setacl(path: str, name: str, acl: list[list[int]]) -> None:
    """Ids count in entries for named users and groups alone."""
    entries = [struct.pack("<HHI", tag, bits, who if tag in (2, 8) else 0xFFFFFFFF) for tag, bits, who in acl]
    os.setxattr(path, acl_attribute(name), struct.pack("<I", 2) + b"".join(entries))


def do_getacl(path: str, name: str) -> list[Any]:
    return list(struct.iter_unpack("<HHI", os.getxattr(path, acl_attribute(name))[4:]))


def do_umask(mask: int) -> None:
    os.umask(mask)


def do_listdir(path: str) -> list[list[Any]]:
    """Names, with the types that the listing itself tells."""
    with os.scandir(path) as entries:
        return sorted(
            [entry.name, entry.is_symlink(), entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)]
            for entry in entries
        )


def do_list_at(slot: int) -> list[str]:
    return sorted(os.listdir(descriptor_of(slot)))


def do_timed(path: str, step: list[Any]) -> list[Any]:
    """Which times of a path a step moves."""
    before = os.lstat(path)
    time.sleep(CLOCK_TICK_SECONDS)
    outcome = perform(step)
    try:
        after = os.lstat(path)
    except OSError as error:
        return [outcome, errno.errorcode[error.errno or 0]]
    if after.st_ino != before.st_ino:
        return [outcome, "another file"]
    moved = [name for name in ("st_mtime_ns", "st_ctime_ns") if getattr(after, name) != getattr(before, name)]
    back = [name for name in moved if name == "st_ctime_ns" and after.st_ctime_ns < before.st_ctime_ns]
    return [outcome, moved, back]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "open": do_open,
    "open_at": do_open_at,
    "close": do_close,
    "read": lambda slot, size: told(os.read(descriptor_of(slot), size)),
    "pread": lambda slot, size, offset: told(os.pread(descriptor_of(slot), size, offset)),
    "write": lambda slot, seed, size: os.write(descriptor_of(slot), content(seed, size)),
    "pwrite": lambda slot, seed, size, offset: os.pwrite(descriptor_of(slot), content(seed, size), offset),
    "seek": do_seek,
    "ftruncate": lambda slot, size: os.ftruncate(descriptor_of(slot), size),
    "fstat": lambda slot: status(os.fstat(descriptor_of(slot))),
    "fchmod": lambda slot, mode: os.fchmod(descriptor_of(slot), mode),
    "fchown": lambda slot, uid, gid: os.fchown(descriptor_of(slot), uid, gid),
    "fsync": lambda slot: os.fsync(descriptor_of(slot)),
    "map_write": do_map_write,
    "map_read": do_map_read,
    "forget_unlinked": do_forget_unlinked,
    "map": do_map,
    "map_store": do_map_store,
    "map_load": do_map_load,
    "flock": lambda slot, how: fcntl.flock(descriptor_of(slot), how | fcntl.LOCK_NB),
    "lock": do_lock,
    "test_lock": do_test_lock,
    "append": do_append,
    "dup": lambda slot, other: keep(other, os.dup(descriptor_of(slot))),
    "fdatasync": lambda slot: os.fdatasync(descriptor_of(slot)),
    "send": lambda target, source, offset, size: os.sendfile(
        descriptor_of(target), descriptor_of(source), offset, size
    ),
    "link_open": do_link_open,
    "chdir": lambda path: os.chdir(path),
    "home": lambda: os.fchdir(home),
    "getcwd": do_getcwd,
    "copy_range": do_copy_range,
    "list_at": do_list_at,
    "mkdir_at": lambda slot, path, mode: os.mkdir(path, mode, dir_fd=descriptor_of(slot)),
    "unlink_at": lambda slot, path: os.unlink(path, dir_fd=descriptor_of(slot)),
    "stat_at": lambda slot, path: status(os.stat(path, dir_fd=descriptor_of(slot))),
    "rename_at": lambda slot, source, target: os.rename(source, target, src_dir_fd=descriptor_of(slot)),
    "truncate": lambda path, size: os.truncate(path, size),
    "stat": lambda path: status(os.stat(path)),
    "lstat": lambda path: status(os.lstat(path)),
    "access": lambda path, how: os.access(path, how, effective_ids=True),
    "mkdir": lambda path, mode: os.mkdir(path, mode),
    "rmdir": lambda path: os.rmdir(path),
    "unlink": lambda path: os.unlink(path),
    "rename": lambda source, target: os.rename(source, target),
    "renameat2": do_renameat2,
    "link": lambda source, target: os.link(source, target, follow_symlinks=False),
    "symlink": lambda target, path: os.symlink(target, path),
    "readlink": lambda path: os.readlink(path),
    "mknod": lambda path, mode, device: os.mknod(path, mode, device),
    "chmod": lambda path, mode: os.chmod(path, mode),
    "lchown": lambda path, uid, gid: os.lchown(path, uid, gid),
    "utime": do_utime,
    "utimens": do_utimens,
    "touch": lambda path: os.utime(path),
    "setxattr": lambda path, name, seed, size, flags: os.setxattr(path, name, content(seed, size), flags),
    "getxattr": lambda path, name: told(os.getxattr(path, name)),
    "listxattr": lambda path: sorted(os.listxattr(path)),
    "removexattr": lambda path, name: os.removexattr(path, name),
    "setacl": do_setacl,
    "getacl": do_getacl,
    "removeacl": lambda path, name: os.removexattr(path, acl_attribute(name)),
    "umask": do_umask,
    "listdir": do_listdir,
    "timed": do_timed,
}


def perform(step: list[Any]) -> Any:
    """The outcome of one step: its value, or the name of its errno."""
    try:
        return OPERATIONS[step[0]](*step[1:])
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def main() -> None:
    uid, *groups = map(int, sys.argv[1:])
    os.umask(0o022)
    if uid:
        os.setgroups(groups)
        os.setgid(uid)
        os.setuid(uid)
    for line in sys.stdin:
        print(json.dumps(perform(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
