"""A process that is started tells whoever started it how it went."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from heliosfs.base.errors import HeliosError
from heliosfs.daemon import background

LONG = 120


def run(body: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Start a daemon with this body from a process that has no threads, as the command does."""
    program = (
        "import os, sys, signal, time\n"
        "from heliosfs.base.errors import HeliosError\n"
        "from heliosfs.daemon import background\n"
        f"def serve(ready):\n{body}\n"
        "try:\n    background.start(serve)\n    print('up')\n"
        "except HeliosError as error:\n    print('failed:', error)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def test_start_returns_when_the_daemon_is_ready(tmp_path: Path) -> None:
    # The pipe to the test's own process tells that the daemon lives on after `start`, and when it has ended.
    done = run(
        f"    record = open({str(tmp_path / 'record')!r}, 'w')\n"
        "    ready()\n"
        "    print(os.getpid(), os.getsid(0), os.getcwd(), oct(os.umask(0)), file=record, flush=True)\n"
        f"    os.rename({str(tmp_path / 'record')!r}, {str(tmp_path / 'done')!r})\n"
        f"    open({str(tmp_path / 'fifo')!r}, 'w')\n",
        prepared(tmp_path),
    )
    assert (done.stdout, done.stderr) == ("up\n", "")
    wait_for_end(tmp_path)
    pid, session, directory, mask = (tmp_path / "done").read_text().split()
    assert pid != session  # it cannot acquire a terminal
    assert (directory, mask) == ("/", "0o77")


def prepared(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def wait_for_end(tmp_path: Path) -> None:
    """Opening the fifo lets the daemon go on; its end closes the other side."""
    with open(tmp_path / "fifo", "rb") as fifo:
        assert select.select([fifo], [], [], LONG)[0]
        assert fifo.read() == b""


def test_the_reason_of_a_failure_reaches_the_caller(tmp_path: Path) -> None:
    done = run("    raise HeliosError('the store is held by pid 7')", tmp_path)
    assert done.stdout == "failed: the store is held by pid 7\n"


def test_an_error_of_the_system_is_put_in_words(tmp_path: Path) -> None:
    done = run("    open('/nowhere')", tmp_path)
    assert done.stdout == "failed: /nowhere: No such file or directory\n"


def test_a_mistake_shows_its_type_and_no_traceback(tmp_path: Path) -> None:
    done = run("    1 / 0", tmp_path)
    assert done.stdout == "failed: internal error: ZeroDivisionError: division by zero\n"
    assert done.stderr == ""


def test_a_daemon_that_just_dies_is_noticed(tmp_path: Path) -> None:
    done = run("    os.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert done.stdout.startswith("failed: the daemon ended before the mount was up")


def test_a_daemon_that_ends_without_being_ready_is_noticed(tmp_path: Path) -> None:
    assert run("    pass", tmp_path).stdout.startswith("failed: the daemon ended before")


def test_a_daemon_nobody_waits_for_ends(tmp_path: Path) -> None:
    prepared(tmp_path)
    program = (
        "import os, signal\n"
        "from heliosfs.daemon import background\n"
        "starter = os.getpid()\n"
        "def serve(ready):\n"
        "    os.kill(starter, signal.SIGKILL)\n"
        f"    fifo = open({str(tmp_path / 'fifo')!r}, 'w')\n"  # opens once the test saw the starter die
        "    ready()\n"
        "    fifo.write('went on')\n"
        "background.start(serve)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program])
    assert starter.wait(LONG) == -signal.SIGKILL
    wait_for_end(tmp_path)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: HeliosError("so it is"), "so it is"),
        (lambda: ExceptionGroup("", [HeliosError("inner")]), "inner"),
        (lambda: OSError(28, "No space left on device"), "No space left on device"),
        (lambda: RuntimeError("odd"), "internal error: RuntimeError: odd"),
    ],
)
def test_explain(make: Callable[[], BaseException], text: str) -> None:
    assert background.explain(make()) == text
