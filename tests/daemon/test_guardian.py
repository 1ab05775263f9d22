"""A daemon that is killed while it waits for itself."""

import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from heliosfs.daemon import guardian

LONG = 300

DAEMON = r'''
"""The least that a FUSE daemon is: it greets the kernel, then answers nothing. A thread looks into its own mount."""
import ctypes, os, struct, sys, threading
from heliosfs.daemon import guardian

mountpoint, guarded = sys.argv[1], sys.argv[2] == "guarded"
if guarded:
    guardian.start(mountpoint)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None).mount(b"none", os.fsencode(mountpoint), b"fuse.heliosfs", 0, options) != 0:
    print("cannot mount", flush=True)
    raise SystemExit
unique = struct.unpack_from("<Q", os.read(fuse, 1 << 20), 8)[0]
greeting = struct.pack("<IIIIHHI", 7, 31, 4096, 0, 12, 9, 4096) + bytes(40)
os.write(fuse, struct.pack("<IiQ", 16 + len(greeting), 0, unique) + greeting)
threading.Thread(target=os.stat, args=(mountpoint + "/x",), daemon=True).start()
os.read(fuse, 1 << 20)
print("trapped", flush=True)
os.read(fuse, 1 << 20)
'''


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and /dev/fuse")
def test_a_killed_daemon_that_waits_for_itself_ends() -> None:
    with tempfile.TemporaryDirectory(prefix="heliosfs-test-") as directory:
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, directory, "guarded"], stdout=subprocess.PIPE, text=True
        )
        assert daemon.stdout is not None
        try:
            said = daemon.stdout.readline()
            if said == "cannot mount\n":
                pytest.skip("nothing can be mounted here")
            assert said == "trapped\n"
            assert not guardian.has_ended(daemon.pid)
            process = os.pidfd_open(daemon.pid)
            signal.pidfd_send_signal(process, signal.SIGKILL)
            assert select.select([process], [], [], LONG)[0], "it has ended, and everyone is free"
            os.close(process)
        finally:
            guardian.abort(directory)
            daemon.kill()
            daemon.wait(LONG)
            daemon.stdout.close()
            subprocess.run(["umount", "-l", directory], check=False, stderr=subprocess.DEVNULL)


def test_who_has_ended() -> None:
    assert not guardian.has_ended(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert guardian.has_ended(child.pid), "a zombie has"
    child.wait(LONG)
    assert guardian.has_ended(child.pid)


def test_the_guardian_ends_with_its_daemon(tmp_path: Path) -> None:
    source = (
        "from heliosfs.daemon import guardian; import os\n"
        f"guardian.start({str(tmp_path)!r})\n"
        "print(open('/proc/self/task/' + str(os.getpid()) + '/children').read(), flush=True); input()"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    child = os.pidfd_open(int(daemon.stdout.readline()))
    try:
        daemon.communicate("\n", timeout=LONG)
        assert select.select([child], [], [], LONG)[0]
    finally:
        os.close(child)
