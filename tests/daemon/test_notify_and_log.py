"""What the daemon tells systemd, and where it writes what happens."""

import io
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosfs.daemon import log, notify


@pytest.fixture(autouse=True)
def clean_logger() -> Iterator[None]:
    yield
    for handler in log.log.handlers:
        handler.close()
    log.log.handlers = []


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(120)
        manager.bind("\0" + path if abstract else path)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + path if abstract else path)
        notify.notify(notify.READY, "STATUS=up")
        assert manager.recv(1000) == b"READY=1\nSTATUS=up"


@pytest.mark.parametrize("address", ["", "/nowhere/socket", "relative"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.notify(notify.READY)


def test_lines_for_systemd_carry_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("faulthandler.enable", lambda: None)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log.to_stderr("info")
    log.log.warning("a %s", "b")
    log.log.info("two\nlines")
    log.log.debug("too small")
    assert stream.getvalue() == "<4>a b\n<6>two\n<6>lines\n"


def test_the_log_in_the_store_is_bounded_and_catches_what_libraries_print(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from heliosfs.daemon import log\n"
        "log.LOG_BYTES_MAX = 1000\n"
        "store = Path(sys.argv[1])\n"
        "log.to_files(store, 'info')\n"
        "for number in range(200): log.log.info('line %d', number)\n"
        "os.write(2, b'fusermount3: user has no write access\\n')\n"
        "print(log.stderr_tail(store))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "fusermount3: user has no write access\n"
    files = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert files == ["heliosfs.log", "heliosfs.log.1", "heliosfs.log.2", "heliosfs.log.3", "stderr"]
    assert all(path.stat().st_size <= 1000 for path in (tmp_path / "log").iterdir())
    assert (tmp_path / "log" / "heliosfs.log").read_text().endswith("INFO line 199\n")


def test_records_of_every_part_reach_the_log(tmp_path: Path) -> None:
    assert logging.getLogger("heliosfs.fuse.errors").parent is log.log
