"""`.heliosfs/call`: one JSON request is written, one JSON reply is read; the two are kept for each open file.

The write returns once the request is complete and has begun, and the read waits for the reply: so a long
request keeps nobody else waiting, although the kernel lets writes to one file happen one after the other
only.
"""

import errno
import json
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

import trio

from heliosfs.base.errors import Refusal
from heliosfs.fuse.filling import Spawn
from heliosfs.fuse.handles import Content
from heliosfs.fuse.stepwise import stepwise

REQUEST_BYTES_MAX: Final = 16 << 20

Answer = Callable[[Any], Awaitable[dict[str, Any]]]
"""From a decoded request to the reply; raises nothing."""


_STEP_CHARACTERS: Final = 256 << 10
"""Of a long text so much is encoded in one step: about 1 ms."""


class CallFile:
    """One conversation."""

    def __init__(self, answer: Answer, spawn: Spawn) -> None:
        self._answer = answer
        self._spawn = spawn
        self._request = bytearray()
        self._reply = b""
        self._origin: int | None = None
        """The offset at which the reader began: programs read on where they stopped writing, or from 0 on."""
        self._begun = False
        self._finished = trio.Event()

    def write(self, offset: int, data: bytes) -> int:
        if self._begun:
            if not self._finished.is_set():
                raise Refusal(errno.EBUSY, "the request before this one is not answered yet")
            self._request, self._reply, self._origin = bytearray(), b"", None
            self._begun, self._finished = False, trio.Event()
        if len(self._request) + len(data) > REQUEST_BYTES_MAX:
            raise Refusal(errno.EFBIG)
        self._request += data
        try:
            request = json.loads(self._request)
        except (ValueError, RecursionError):
            return len(data)
        self._begun = True
        self._spawn(lambda: self._perform(request))
        return len(data)

    async def _perform(self, request: Any) -> None:
        reply = await self._answer(request)
        pieces: list[str] = []
        await stepwise(_encode(reply, pieces))
        self._reply = "".join(pieces).encode("ascii") + b"\n"
        self._finished.set()

    def read(self, offset: int, size: int) -> Coroutine[Any, Any, Content]:
        return self._wait(offset, size)

    async def _wait(self, offset: int, size: int) -> Content:
        if self._begun:
            await self._finished.wait()
        elif self._request:
            refusal = {"ok": False, "errno": errno.EINVAL, "error": "the request is not one JSON value"}
            self._reply = json.dumps(refusal).encode("ascii") + b"\n"
            self._begun = True
            self._finished.set()
        if self._origin is None:
            self._origin = offset
        start = offset - self._origin
        return self._reply[start : start + size] if start >= 0 else b""

    def close(self) -> None:
        pass


def _encode(value: Any, pieces: list[str]) -> Generator[None, None, None]:
    """JSON, in steps: a reply can be a diff of many megabytes or a list of a hundred thousand changes."""
    if isinstance(value, dict):
        for count, (key, each) in enumerate(value.items()):
            pieces.append(f"{', ' if count else '{'}{json.dumps(str(key))}: ")
            yield from _encode(each, pieces)
        pieces.append("}" if value else "{}")
    elif isinstance(value, list):
        for count, each in enumerate(value):
            pieces.append(", " if count else "[")
            yield from _encode(each, pieces)
        pieces.append("]" if value else "[]")
    elif isinstance(value, str):
        pieces.append('"')
        for start in range(0, len(value), _STEP_CHARACTERS):
            pieces.append(json.dumps(value[start : start + _STEP_CHARACTERS])[1:-1])
            yield
        pieces.append('"')
    else:
        pieces.append(json.dumps(value))
        yield
