"""Names for people's eyes.

Names of files, snapshots and branches are any bytes but "/" and NUL. A name that could fool a terminal
or a reader (control characters, bytes that are no text, quotes, blanks at the ends) is shown in the
shell's $'...' quoting, so that it can be pasted into a command; any other as it is.
"""

import os
import re

_PLAIN = re.compile(r"[^\s'\"\\$`]+(?: [^\s'\"\\$`]+)*")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'", "\x1b": "\\e"}


def shown(name: str | bytes) -> str:
    """A name or path, quoted where needed. A `str` carries bytes that are no text as surrogate escapes."""
    text = os.fsdecode(name)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return "$'" + "".join(_escaped(character) for character in text) + "'"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    # The name's own bytes: what the shell makes of \xNN, whatever its locale.
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
