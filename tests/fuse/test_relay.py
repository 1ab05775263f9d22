"""The handshake, with messages made by hand; a packet socket stands for the device."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from heliosfs.fuse.relay import (
    ACLS,
    CACHE_SYMLINKS,
    HANDLE_KILLPRIV_V2,
    NAMES,
    PARALLEL_DIROPS,
    POSIX_ACL,
    WANTED,
    HandshakeFailed,
    Relay,
)

INIT = 26
ASYNC_READ = 1
"""A flag that is not ours to set: libfuse's choice."""


def greeting(offered: int, opcode: int = INIT) -> bytes:
    """fuse_in_header and fuse_init_in."""
    body = struct.pack("<IIII", 7, 45, 1 << 20, offered) + bytes(48)
    return struct.pack("<IIQQIIIHH", 40 + len(body), opcode, 1, 0, 0, 0, 0, 0, 0) + body


def answer(flags: int, error: int = 0, body_bytes: int = 64) -> bytes:
    """fuse_out_header and fuse_init_out."""
    body = struct.pack("<IIII", 7, 45, 1 << 20, flags).ljust(body_bytes, b"\x05")[:body_bytes]
    return struct.pack("<IiQ", 16 + len(body), error, 1) + body


class Kernel:
    """The other end of the device."""

    def __init__(self, required: int = 0) -> None:
        self.end, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.device = device.detach()
        self.relay = Relay(self.device, required)

    def libfuse_reads(self) -> bytes:
        return os.read(self.relay.descriptor, 1 << 20)

    def libfuse_writes(self, message: bytes) -> None:
        os.write(self.relay.descriptor, message)

    def close(self) -> None:
        self.end.close()
        self.relay.abandon()
        os.close(self.relay.descriptor)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


def shake_hands(kernel: Kernel, offered: int, chosen: int) -> bytes:
    """The answer that the kernel gets."""
    kernel.end.send(greeting(offered))
    assert kernel.relay.step() is False
    assert kernel.libfuse_reads() == greeting(offered)
    kernel.libfuse_writes(answer(chosen))
    assert kernel.relay.step() is True
    return kernel.end.recv(1 << 20)


def test_the_wanted_flags_are_added_and_nothing_else_is_changed(kernel: Kernel) -> None:
    got = shake_hands(kernel, WANTED | ASYNC_READ, ASYNC_READ)
    assert got == answer(WANTED | ASYNC_READ)
    assert kernel.relay.active == WANTED and kernel.relay.established


@pytest.mark.parametrize("offered", [0, PARALLEL_DIROPS, CACHE_SYMLINKS | HANDLE_KILLPRIV_V2])
def test_only_what_the_kernel_offered_is_asked_for(kernel: Kernel, offered: int) -> None:
    assert shake_hands(kernel, offered, ASYNC_READ) == answer(offered | ASYNC_READ)
    assert kernel.relay.active == offered


def test_afterwards_the_device_is_in_the_place_of_the_socket(kernel: Kernel) -> None:
    shake_hands(kernel, WANTED, 0)
    kernel.end.send(b"a request")
    assert kernel.libfuse_reads() == b"a request"
    kernel.libfuse_writes(b"a reply")
    assert kernel.end.recv(100) == b"a reply"
    assert kernel.relay.step() is True
    assert not os.get_inheritable(kernel.relay.descriptor)
    with pytest.raises(OSError) as caught:
        os.fstat(kernel.device)
    assert caught.value.errno == errno.EBADF


def never(kernel: Kernel) -> None:
    kernel.end.send(greeting(WANTED, opcode=1))
    kernel.relay.step()


def torn_greeting(kernel: Kernel) -> None:
    kernel.end.send(greeting(WANTED)[:45])
    kernel.relay.step()


def refused(kernel: Kernel) -> None:
    kernel.end.send(greeting(WANTED))
    kernel.relay.step()
    kernel.libfuse_writes(answer(0, error=-errno.EPROTO))
    kernel.relay.step()


def torn_answer(kernel: Kernel) -> None:
    kernel.end.send(greeting(WANTED))
    kernel.relay.step()
    kernel.libfuse_writes(answer(0, body_bytes=8))
    kernel.relay.step()


def gone(kernel: Kernel) -> None:
    kernel.end.close()
    kernel.relay.step()


@pytest.mark.parametrize("talk", [never, torn_greeting, refused, torn_answer, gone])
def test_whatever_is_unexpected_fails_and_can_be_given_up(kernel: Kernel, talk: Callable[[Kernel], None]) -> None:
    with pytest.raises(HandshakeFailed):
        talk(kernel)
    assert not kernel.relay.established
    kernel.relay.abandon()
    kernel.relay.abandon()
    with pytest.raises(OSError):
        os.fstat(kernel.device)


def test_what_is_required_is_asked_for_or_there_is_no_mount() -> None:
    kernel = Kernel(ACLS)
    assert shake_hands(kernel, WANTED | ACLS, 0) == answer(WANTED | ACLS)
    kernel.close()
    kernel = Kernel(ACLS)
    with pytest.raises(HandshakeFailed, match="mount options"):
        shake_hands(kernel, WANTED | POSIX_ACL, 0)
    kernel.close()


def test_every_wanted_flag_has_a_name() -> None:
    assert sum(NAMES) == WANTED
