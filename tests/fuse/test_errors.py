"""Exceptions become what the caller sees: the right errno, counted, and logged once for each thing."""

import errno
import logging
from collections.abc import Callable

import pytest
from pyfuse3 import FUSEError

from heliosfs.base.errors import Corruption, HeliosError, Refusal
from heliosfs.fuse import errors
from heliosfs.fuse.errors import Faults


@pytest.fixture
def faults(caplog: pytest.LogCaptureFixture) -> Faults:
    caplog.set_level(logging.DEBUG, errors.log.name)
    return Faults()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Refusal(errno.ENOENT), errno.ENOENT),
        (FUSEError(errno.EXDEV), errno.EXDEV),
        (Corruption("chunk", "pack 1"), errno.EIO),
        (OSError(errno.ENOSPC, "full"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "quota"), errno.EDQUOT),
        (OSError(errno.EACCES, "the store is not ours"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
        (HeliosError("the database is damaged"), errno.EIO),
        (KeyError("a mistake"), errno.EIO),
    ],
)
def test_errnos(faults: Faults, error: Exception, expected: int) -> None:
    assert faults.errno_of(error, "write") == expected


def test_expected_outcomes_are_neither_counted_nor_logged(faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    faults.errno_of(Refusal(errno.ENOENT), "lookup")
    faults.errno_of(FUSEError(errno.ENOENT), "lookup")
    assert not any(faults.statistics().values()) and not caplog.records


def test_damage_is_counted_each_time_and_logged_once_for_each_thing(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    for where in ("pack 1", "pack 1", "pack 2"):
        faults.errno_of(Corruption("chunk", where, b"\x01" * 32), "read")
    assert faults.statistics() == {"corruptions": 3, "disk_errors": 0, "mistakes": 0}
    assert [record.getMessage().count("pack 1") for record in caplog.records] == [1, 0]


def test_a_full_disk_is_told_to_the_caller_and_not_to_the_log(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.errno_of(OSError(errno.ENOSPC, "full"), "write")
    assert faults.disk_errors == 1 and not caplog.records


def test_a_broken_disk_is_logged_once_for_each_kind_of_request(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    for where in ("write", "write", "fsync"):
        faults.errno_of(OSError(errno.EIO, "broken"), where)
    assert faults.disk_errors == 3 and len(caplog.records) == 2


def raised_by(function: Callable[[], object]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_mistake_is_logged_once_for_each_place_with_its_trace(
    faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    def here() -> None:
        raise KeyError("x")

    def there() -> None:
        raise KeyError("x")

    for function in (here, here, there):
        faults.errno_of(raised_by(function), "rename", (b"old", b"new"))
    assert faults.mistakes == 3
    assert [bool(record.exc_info) for record in caplog.records] == [True, True]
    assert "rename(b'old', b'new')" in caplog.records[0].getMessage()


def test_large_arguments_are_cut_short_in_the_log(faults: Faults, caplog: pytest.LogCaptureFixture) -> None:
    faults.errno_of(KeyError("x"), "write", (b"a" * 1_000_000,))
    assert len(caplog.records[0].getMessage()) < 2 * errors.SHOWN_CHARACTERS


def test_the_log_is_bounded(
    faults: Faults, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "LOGGED_MAX", 3)
    for number in range(10):
        faults.errno_of(Corruption("chunk", str(number)), "read")
    assert faults.corruptions == 10 and len(caplog.records) == 3
