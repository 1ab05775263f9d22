"""What is set for the process takes effect."""

import subprocess
import sys
from pathlib import Path

import pytest

THREAD_AND_ARENAS = """
import ctypes, sys, threading
from heliosfs.fuse import tuning
if not tuning.share_freed_memory():
    sys.exit("not glibc")
kept = []
thread = threading.Thread(target=lambda: kept.append(bytes(1 << 20)))
thread.start()
thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def test_threads_share_what_memory_was_freed(tmp_path: Path) -> None:
    found = tmp_path / "arenas"
    words = [sys.executable, "-c", THREAD_AND_ARENAS, str(found)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.stderr.strip() == "not glibc":
        pytest.skip("another C library has other settings")
    assert done.returncode == 0, done.stderr
    assert found.read_text().count("<heap nr=") == 1
