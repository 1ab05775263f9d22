"""Start a daemon and wait until it is up, so that whoever started it can use what it serves at once.

The child tells its parent one thing through a pipe: that it is ready, or why it is not. The parent
returns or raises accordingly. A child whose parent is gone before it was ready ends, since nobody
would know that it is there.
"""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from heliosfs.base.errors import HeliosError

_READY = b"+"
_FAILED = b"-"

Ready = Callable[[], None]
Serve = Callable[[Ready], None]


def start(serve: Serve) -> None:
    """Run `serve(ready)` in a process of its own; return when that has called `ready`.

    Raises HeliosError with the child's message when it ended before. Call it before any thread is
    started: only the calling thread lives on in the child.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _child(serve, reader, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if said[:1] == _READY:
        return
    if said[:1] == _FAILED:
        raise HeliosError(said[1:].decode(errors="surrogateescape"))
    raise HeliosError("the daemon ended before the mount was up and gave no reason; try --foreground")


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _child(serve: Serve, reader: int, writer: int) -> NoReturn:
    """Leave the session, so that no terminal's end reaches the daemon, and serve in a second child."""
    try:
        os.close(reader)
        os.setsid()
        if os.fork() == 0:
            _serve(serve, writer)
    finally:
        os._exit(0)


def _serve(serve: Serve, writer: int) -> NoReturn:
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)

    told = False
    code = 1

    def ready() -> None:
        nonlocal told
        os.write(writer, _READY)
        os.close(writer)
        told = True

    try:
        serve(ready)
        code = 0
    except BaseException as error:
        if told:
            traceback.print_exc()
        else:
            os.write(writer, _FAILED + explain(error).encode(errors="surrogateescape"))
    finally:
        os._exit(code)


def explain(error: BaseException) -> str:
    """An error in words for a person; only a mistake of our own shows its type."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, HeliosError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, str | bytes) else error.strerror
    return f"internal error: {type(error).__name__}: {error}"
