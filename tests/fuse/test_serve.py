"""What a mount does beside its requests."""

import errno
from pathlib import Path

import pytest
import trio

from heliosfs.fuse import serve, tuning
from heliosfs.fuse.options import Options
from heliosfs.fuse.serve import Mounted
from heliosfs.volume.volume import Volume


def test_a_failure_beside_requests_does_not_end_the_mount(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it cannot be told how full the disk is, because the store has been moved."""
    monkeypatch.setattr(serve, "TICK_SECONDS", 0)
    mounted = Mounted(volume, str(tmp_path / "mount"), Options())
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise OSError(errno.ENOENT, "no such file or directory")
        scope.cancel()
        return False

    monkeypatch.setattr(mounted.collecting, "due", look)
    scope = trio.CancelScope()

    async def run() -> None:
        with trio.fail_after(60), scope:
            await mounted._tick()

    trio.run(run)
    assert looks == 3 and mounted.faults.disk_errors == 2


def test_processors_may_sleep_again_when_requests_cease(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "device"
    device.touch()
    monkeypatch.setattr(tuning, "LATENCY_DEVICE", str(device))
    monkeypatch.setattr(serve, "TICK_SECONDS", 0)
    mounted = Mounted(volume, str(tmp_path / "mount"), Options(low_latency=True))
    assert mounted.features()["low_latency"]
    held = []

    def look() -> bool:
        held.append(mounted.latency._descriptor >= 0)
        if len(held) < 4:
            mounted.operations.requests["lookup"] += serve.BUSY_REQUESTS_PER_TICK
        if len(held) == 6:
            scope.cancel()
        return False

    monkeypatch.setattr(mounted.collecting, "due", look)
    scope = trio.CancelScope()
    mounted.latency.hold()

    async def run() -> None:
        with trio.fail_after(60), scope:
            await mounted._tick()

    trio.run(run)
    assert held == [True, True, True, True, False, False]
