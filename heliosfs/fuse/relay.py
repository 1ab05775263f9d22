"""The handshake between the kernel and libfuse, passed through us.

libfuse 3.14 never answers the kernel's INIT with some features that it and we could serve. So the device is
opened by us, and libfuse gets one end of a pair of packet sockets as its "device". The loop calls `step`
instead of waiting: the first call feeds the kernel's INIT to libfuse, the second takes libfuse's answer,
adds the flags, answers the kernel, and puts the real device in the place of the socket. libfuse notices
nothing.
"""

import os
import socket
import struct
from typing import Final

PARALLEL_DIROPS: Final = 1 << 18
"""Without it one slow look-up keeps every other one in its directory waiting."""
CACHE_SYMLINKS: Final = 1 << 23
HANDLE_KILLPRIV_V2: Final = 1 << 28
"""We clear set-id bits and capabilities ourselves; otherwise the kernel asks for them before every write."""
WANTED: Final = PARALLEL_DIROPS | CACHE_SYMLINKS | HANDLE_KILLPRIV_V2
POSIX_ACL: Final = 1 << 20
"""The kernel checks access control lists, which it keeps and gets as extended attributes."""
DONT_MASK: Final = 1 << 6
"""We apply the umask to new files, since a default access control list stands in its place."""
ACLS: Final = POSIX_ACL | DONT_MASK
NAMES: Final = {
    PARALLEL_DIROPS: "parallel_dirops",
    CACHE_SYMLINKS: "cache_symlinks",
    HANDLE_KILLPRIV_V2: "handle_killpriv_v2",
}
"""Those that make it faster."""

_REQUEST_BYTES_MAX: Final = 1 << 20
_INIT_OPCODE: Final = 26
# struct fuse_in_header and fuse_init_in; struct fuse_out_header and fuse_init_out
# (include/uapi/linux/fuse.h).
_OPCODE_OFFSET: Final = 4
_OFFERED_OFFSET: Final = 40 + 12
_ANSWER_ERROR_OFFSET: Final = 4
_ANSWER_FLAGS_OFFSET: Final = 16 + 12
_ANSWER_BYTES_MIN: Final = 16 + 24


class HandshakeFailed(Exception):
    """The kernel or libfuse said something unexpected; a plain mount may still work."""


class Relay:
    """Stands between the device and libfuse until the session is established."""

    def __init__(self, device: int, required: int = 0) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours = ours
        self._device = device
        self._required = required
        """Flags without which there is to be no mount."""
        self._offered = 0
        self._asked = False
        self.active = 0
        """The wanted flags that the kernel offered and has been told to use."""
        self.established = False
        self.descriptor = theirs.detach()
        """What libfuse takes for the device, and what is the device in the end."""

    def step(self) -> bool:
        """One half of the handshake; True once there is nothing more to do."""
        if self.established:
            return True
        try:
            if self._asked:
                self._answer()
            else:
                self._ask()
        except (OSError, struct.error) as error:
            raise HandshakeFailed(str(error)) from error
        return self.established

    def _ask(self) -> None:
        request = os.read(self._device, _REQUEST_BYTES_MAX)
        (opcode,) = struct.unpack_from("<I", request, _OPCODE_OFFSET)
        if opcode != _INIT_OPCODE:
            raise HandshakeFailed(f"the kernel began with request {opcode}")
        (self._offered,) = struct.unpack_from("<I", request, _OFFERED_OFFSET)
        self._ours.send(request)
        self._asked = True

    def _answer(self) -> None:
        answer = bytearray(self._ours.recv(_REQUEST_BYTES_MAX))
        if len(answer) < _ANSWER_BYTES_MIN or struct.unpack_from("<i", answer, _ANSWER_ERROR_OFFSET) != (0,):
            raise HandshakeFailed("libfuse refused the kernel's greeting")
        if self._required & ~self._offered:
            raise HandshakeFailed("the kernel cannot do what the mount options ask for")
        self.active = (WANTED | self._required) & self._offered
        (flags,) = struct.unpack_from("<I", answer, _ANSWER_FLAGS_OFFSET)
        struct.pack_into("<I", answer, _ANSWER_FLAGS_OFFSET, flags | self.active)
        os.write(self._device, answer)
        os.dup2(self._device, self.descriptor, inheritable=False)
        os.close(self._device)
        self._ours.close()
        self.established = True

    def abandon(self) -> None:
        """Let go of what libfuse does not close."""
        if not self.established:
            os.close(self._device)
            self._ours.close()
            self.established = True
