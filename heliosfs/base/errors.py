"""The kinds of error.

An expected outcome of a call carries an errno (`Refusal`); anything read back that does not check
is `Corruption`; a message for a person who has to do something is `HeliosError`. Our own mistakes
are assertions, and input never trips one.
"""

import os


class HeliosError(Exception):
    """A failure told to a person: the message names the thing, the cause and the way out."""


class Corruption(HeliosError):
    """Stored bytes that do not check. They are never returned; the reader gets EIO.

    `what` is the kind of thing ("chunk", "journal record"), `where` the file and offset,
    `digest` the name of the object when it has one.
    """

    def __init__(self, what: str, where: str, digest: bytes = b"") -> None:
        name = f" {digest.hex()}" if digest else ""
        super().__init__(f"damaged {what}{name} at {where}")
        self.what = what
        self.where = where
        self.digest = digest


class Refusal(Exception):
    """An expected outcome that the caller sees as an errno, such as ENOENT.

    The message is for a person; where it is left out the system's text for the errno stands in.
    """

    def __init__(self, errno: int, message: str = "") -> None:
        super().__init__(errno, message)
        self.errno = errno
        self.message = message or os.strerror(errno)

    def __str__(self) -> str:
        return self.message
