"""The conversation through `.heliosfs/call`: a request in, a reply out, whichever way a program reads."""

import errno
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from heliosfs.base.errors import Refusal
from heliosfs.fuse import call_file
from heliosfs.fuse.call_file import CallFile


async def answer(request: Any) -> dict[str, Any]:
    await trio.lowlevel.checkpoint()
    return {"ok": True, "result": request}


def talk(conversation: Callable[[CallFile], Awaitable[None]]) -> None:
    """Have it with a file whose requests are answered by themselves."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await conversation(CallFile(answer, nursery.start_soon))

    trio.run(main)


def test_a_request_in_pieces_and_a_reply_in_pieces() -> None:
    async def conversation(file: CallFile) -> None:
        request = json.dumps({"verb": "status"}).encode()
        assert file.write(0, request[:5]) == 5
        assert file.write(5, request[5:]) == len(request) - 5
        pieces = [bytes(await file.read(0, 7))]
        while piece := bytes(await file.read(7 * len(pieces), 7)):
            pieces.append(piece)
        assert json.loads(b"".join(pieces)) == {"ok": True, "result": {"verb": "status"}}

    talk(conversation)


def test_reading_goes_on_where_writing_stopped() -> None:
    async def conversation(file: CallFile) -> None:
        file.write(0, b"[1]")
        reply = bytes(await file.read(3, 10))
        reply += bytes(await file.read(3 + len(reply), 1000))
        assert json.loads(reply)["result"] == [1]

    talk(conversation)


def test_one_request_after_another() -> None:
    async def conversation(file: CallFile) -> None:
        for number in range(3):
            file.write(0, b"[%d]" % number)
            assert json.loads(bytes(await file.read(0, 1000)))["result"] == [number]

    talk(conversation)


def test_the_next_request_has_to_wait_for_the_reply() -> None:
    async def conversation(file: CallFile) -> None:
        file.write(0, b"[1]")
        with pytest.raises(Refusal) as caught:
            file.write(0, b"[2]")
        assert caught.value.errno == errno.EBUSY
        assert json.loads(bytes(await file.read(0, 1000)))["result"] == [1]

    talk(conversation)


def test_what_is_no_request_is_refused_in_words() -> None:
    async def conversation(file: CallFile) -> None:
        file.write(0, b"{not json")
        reply = json.loads(bytes(await file.read(0, 1000)))
        assert (reply["ok"], reply["errno"]) == (False, errno.EINVAL)

    talk(conversation)


def test_nothing_asked_nothing_answered() -> None:
    async def conversation(file: CallFile) -> None:
        assert bytes(await file.read(0, 1000)) == b""

    talk(conversation)


def test_a_request_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_file, "REQUEST_BYTES_MAX", 10)

    async def conversation(file: CallFile) -> None:
        file.write(0, b'["' + b"a" * 8)
        with pytest.raises(Refusal) as caught:
            file.write(10, b"a")
        assert caught.value.errno == errno.EFBIG

    talk(conversation)


def test_a_long_reply_is_one_json_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_file, "_STEP_CHARACTERS", 3)
    text = "a\"\u00e9\U0001f600\n\\" * 5
    value = {"text": text, "list": [[], {}, [1, {"k": None}], True, 1.5], "surrogate": "\udcff" * 7}

    async def conversation(file: CallFile) -> None:
        file.write(0, json.dumps(value).encode())
        assert json.loads(bytes(await file.read(0, 10_000))) == {"ok": True, "result": json.loads(json.dumps(value))}

    talk(conversation)
