"""What is set for the process takes effect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heliosfs.fuse import tuning

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


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "device"
    path.touch()
    monkeypatch.setattr(tuning, "LATENCY_DEVICE", str(path))
    return path


@pytest.mark.parametrize(
    ("flags", "processors", "there", "expected"),
    [
        ("fpu hypervisor lahf_lm", 2, True, True),
        ("fpu lahf_lm", 2, True, False),
        ("fpu hypervisor lahf_lm", 64, True, False),
        ("fpu hypervisor lahf_lm", 2, False, False),
    ],
)
def test_small_virtual_machines_are_kept_awake_where_that_can_be(
    device: Path, monkeypatch: pytest.MonkeyPatch, flags: str, processors: int, there: bool, expected: bool
) -> None:
    described = device.with_name("cpuinfo")
    described.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(tuning, "PROCESSORS", str(described))
    monkeypatch.setattr(tuning.os, "cpu_count", lambda: processors)
    if not there:
        device.unlink()
    assert tuning.waking_takes_long() is expected


def test_processors_are_kept_awake_while_that_is_held(device: Path) -> None:
    latency = tuning.Latency()
    latency.hold()
    held = latency._descriptor
    latency.hold()
    assert latency._descriptor == held >= 0 and device.read_bytes() == bytes(4)
    latency.release()
    latency.release()
    with pytest.raises(OSError):
        os.fstat(held)


def test_a_device_that_refuses_is_done_without(device: Path) -> None:
    unwanted = tuning.Latency(wanted=False)
    unwanted.hold()
    assert not unwanted.available and unwanted._descriptor < 0
    latency = tuning.Latency()
    device.unlink()
    latency.hold()
    assert not latency.available and latency._descriptor < 0
