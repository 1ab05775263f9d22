"""Where the daemon's log goes: STORE/log/heliosfs.log, or standard error in the foreground.

The log is bounded: four files of 1 MiB. What libraries written in C, and the interpreter when it
crashes, print by themselves lands in STORE/log/stderr, which starts empty at every mount.
"""

import faulthandler
import logging
import logging.handlers
import os
import signal
import sys
from pathlib import Path

LOG_BYTES_MAX = 1 << 20
LOG_FILES_MAX = 4

_SYSLOG_LEVEL = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

log = logging.getLogger("heliosfs")


class _JournalFormatter(logging.Formatter):
    """Lines as systemd's journal reads them from standard error: `<level>message`, no time."""

    def format(self, record: logging.LogRecord) -> str:
        level = _SYSLOG_LEVEL.get(record.levelno, 6)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def to_stderr(level: str) -> None:
    """Log to standard error: with times on a terminal, with levels for systemd."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _use(handler, level)
    faulthandler.enable()


def to_files(store: Path, level: str) -> None:
    """Log into the store's own directory, which exists already, and take standard error there as well."""
    directory = store / "log"
    directory.mkdir(exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        directory / "heliosfs.log", maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_MAX - 1, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _use(handler, level)
    output = os.open(directory / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(output, 2)
    os.close(output)
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)


def stderr_tail(store: Path) -> str:
    """The last line that libraries printed since the mount began: the cause when a mount fails."""
    try:
        lines = (store / "log" / "stderr").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def _use(handler: logging.Handler, level: str) -> None:
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level.upper())
