"""Ask the daemon of a mount: one JSON request, one JSON reply, through `.heliosfs/call` of a tree root.

The daemon is found by walking up from the given path: the mount itself says where it is, so there is
nothing that could go stale, and a process confined to a branch reaches that branch and no other.
"""

import errno
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from heliosfs.base.errors import HeliosError
from heliosfs.base.quoting import shown
from heliosfs.daemon import mounts

CALL = ".heliosfs/call"
READ_BYTES = 1 << 20
LOOK_SECONDS = 0.1
"""Between two requests to stop what was interrupted."""


class Refused(HeliosError):
    """The daemon said no; `errno` is what the same operation on a file would have given."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.errno = number


class ReadOnly(HeliosError):
    """A request cannot be written here."""


def call(path: str, verb: str, /, **arguments: Any) -> Any:
    """The result of a verb on the tree that the path lies in. Arguments that are None are left out."""
    given = {name: value for name, value in arguments.items() if value is not None}
    request = {"verb": verb, "arguments": given}
    reply = json.loads(exchange(os.path.join(tree_root(path), CALL), json.dumps(request).encode()))
    if reply["ok"]:
        return reply["result"]
    raise Refused(reply["error"], reply.get("errno", errno.EIO))


def call_until_interrupted(
    path: str, verb: str, /, *, stop: Callable[[], None] | None = None, **arguments: Any
) -> Any:
    """The same for what may take long. The kernel lets nobody who waits for a reply be interrupted, so a thread waits.

    Ctrl-C ends the waiting at once, which is for what changes nothing. With `stop`, which asks the daemon to leave off,
    the reply is waited for: it says whether that came too late. A second Ctrl-C ends the waiting all the same.
    """
    replies: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            replies.put((call(path, verb, **arguments), None))
        except Exception as error:
            replies.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        result, error = replies.get()
    except KeyboardInterrupt:
        if stop is None:
            raise
        result, error = _stopped(replies, stop)
    if error is not None:
        raise error
    return result


def _stopped(
    replies: "queue.SimpleQueue[tuple[Any, Exception | None]]", stop: Callable[[], None]
) -> tuple[Any, Exception | None]:
    """The reply, after the daemon was asked to stop: again and again, as what is to be stopped may not have begun."""
    while True:
        stop()
        try:
            return replies.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue


def tree_root(path: str) -> str:
    """The root of the innermost tree (branch or snapshot) that this path lies in."""
    directory = os.path.realpath(path)
    try:
        device = os.stat(directory).st_dev
    except FileNotFoundError:
        raise HeliosError(f"there is no {shown(path)}") from None
    except OSError as error:
        raise _unreachable(path, error) from None
    while True:
        try:
            if os.stat(directory).st_dev != device:
                break
            # Not os.path.lexists, which takes a dead daemon for an absent file.
            os.lstat(os.path.join(directory, CALL))
            if _ours(device):
                return directory
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise _unreachable(path, error) from None
        if directory == "/":
            break
        directory = os.path.dirname(directory)
    raise HeliosError(
        f"{shown(path)} is not in a HeliosFS mount; `heliosfs status` lists the mounts, "
        "`heliosfs mount STORE MOUNTPOINT` makes one"
    )


def paths_in_tree(mountpoint: str, paths: Sequence[str]) -> list[str]:
    """Paths as verbs take them: from the root of the tree. Absolute ones may be given too, if they lie in it."""
    found = []
    for path in paths:
        if not os.path.isabs(path):
            # What has .. in it is left to the verb, which knows symbolic links.
            found.append(path if ".." in path.split("/") else os.path.normpath(path))
            continue
        root = tree_root(mountpoint)
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if real != root and not real.startswith(root + os.sep):
            raise HeliosError(f"{shown(path)} is outside of the tree at {shown(root)}")
        found.append(os.path.relpath(real, root))
    return found


def exchange(path: str, request: bytes) -> bytes:
    """Send a request and read the whole reply. The kernel keeps both apart for every open file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        root = shown(os.path.dirname(os.path.dirname(path)))
        raise ReadOnly(
            f"{root} is read-only, and most commands have to write their request into it; what can be read there "
            "without: .heliosfs/log, .heliosfs/diff/A..B, .heliosfs/changes/A..B, .snapshots, .branches"
        ) from error
    try:
        os.write(descriptor, request)
        pieces = []
        offset = 0
        while piece := os.pread(descriptor, READ_BYTES, offset):
            pieces.append(piece)
            offset += len(piece)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def _ours(device: int) -> bool:
    return any(mount.device == device for mount in mounts.mounts())


def _unreachable(path: str, error: OSError) -> HeliosError:
    if error.errno == errno.ENOTCONN:
        return HeliosError(
            f"{shown(path)}: the daemon of this mount is gone; clear the mount away with "
            f"`heliosfs umount {shown(path)}`, then mount again: nothing that was acknowledged is lost"
        )
    return HeliosError(f"{shown(path)}: {error.strerror}")
