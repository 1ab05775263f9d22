"""What /proc says of the processes that ask."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from heliosfs.fuse import processes
from heliosfs.fuse.processes import UNKNOWN, Identity


def test_this_process() -> None:
    assert processes.identity(os.getpid()) == Identity(os.getpid(), os.getppid())
    assert processes.groups(os.getpid()) == set(os.getgroups())
    assert processes.working_directory(os.getpid()) == os.fsencode(os.getcwd())
    assert processes.command(os.getpid()) == Path("/proc/self/comm").read_bytes().rstrip(b"\n")


def test_a_thread_belongs_to_its_process() -> None:
    found: list[tuple[int, Identity]] = []

    def look() -> None:
        found.append((threading.get_native_id(), processes.identity(threading.get_native_id())))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    ((number, identity),) = found
    assert number != os.getpid() and identity.process == os.getpid()


def test_arguments_of_another_process() -> None:
    program = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, "", "a b"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        # Popen may return before the kernel has noted the command line.
        assert child.stdout is not None and child.stdout.readline() == b"\n"
        assert processes.arguments(child.pid) == [os.fsencode(sys.executable), b"-c", program.encode(), b"", b"a b"]
        assert processes.identity(child.pid).parent == os.getpid()


@pytest.mark.parametrize("pid", [0, -1, 1 << 30])
def test_nobody_is_unknown_and_no_failure(pid: int) -> None:
    """0 is what the kernel gives for a process of another pid namespace."""
    assert processes.command(pid) == b""
    assert processes.arguments(pid) == []
    assert processes.identity(pid) == UNKNOWN
    assert processes.groups(pid) == set()
    assert processes.working_directory(pid) == b""


def test_the_command_follows_an_exec_and_ends_with_the_process() -> None:
    program = "import os; print(flush=True); os.read(0, 1); os.execvp('cat', ['cat'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == b"\n"
        assert processes.command(child.pid) not in (b"", b"cat")
        child.stdin.write(b"xthrough cat\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"through cat\n"
        assert processes.command(child.pid) == b"cat"
        child.stdin.close()
    assert processes.command(child.pid) == b""


def test_few_commands_are_kept_open() -> None:
    threads = [threading.Thread(target=lambda: processes.command(threading.get_native_id())) for _ in range(64)]
    before = len(os.listdir("/proc/self/fd"))
    for thread in threads:
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + processes.COMMANDS_KEPT
