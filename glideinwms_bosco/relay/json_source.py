# SPDX-License-Identifier: Apache-2.0
"""Read a JSON file strictly and remember the line of each value, so that every finding names file and line.

`json` itself keeps the last of two equal keys, takes NaN, and knows no lines once it is done. Standard library only:
the gahp launcher reads relay.conf at each start.
"""

from __future__ import annotations

import os
import re
import stat
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any, NoReturn, Union

from glideinwms_bosco.errors import Problem, RelayFileError

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 16
"""Deepest nesting; relay.conf needs four levels."""

PathKey = tuple[Union[str, int], ...]
"""Where a value stands: `("brokers", 0, "name")`."""

# Source: RFC 8259 sections 2, 3 and 6.
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?![0-9.eE])")
_DECODER = JSONDecoder()
_WORDS = {"true": True, "false": False, "null": None}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class JsonSource:
    """A parsed file: `data` (dict, list, str, int, bool, None) and the line of each value.

    Args:
        path: file to read; messages name it as given.

    Raises:
        RelayFileError: unreadable, too large, not UTF-8, not JSON, a key twice, a fraction, control characters.
    """

    def __init__(self, path: Path) -> None:
        self.file = str(path)
        self._lines: dict[PathKey, int] = {}
        self._text = self._read(path)
        self._at = 0
        self.data: Any = self._value(())
        self._skip()
        if self._at != len(self._text):
            self._fail("there is more behind the end of the document")

    def line(self, path: PathKey) -> int:
        """Line of the value at `path`, or of the nearest parent that stands in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def problem(self, path: PathKey, message: str, hint: str = "") -> Problem:
        """A finding about one value."""
        return Problem(self.file, self.line(path), dotted(path), message, hint)

    def _read(self, path: Path) -> str:
        try:
            # Without O_NONBLOCK opening a pipe waits for its writer.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    self._refuse(0, "is not a regular file")
                raw = stream.read(MAX_FILE_BYTES + 1)
        except OSError as err:
            self._refuse(0, f"cannot be read: {err.strerror}")
        if len(raw) > MAX_FILE_BYTES:
            self._refuse(0, f"larger than {MAX_FILE_BYTES} bytes")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as err:
            self._refuse(raw.count(b"\n", 0, err.start) + 1, "not UTF-8 text", "save the file as UTF-8")

    def _refuse(self, line: int, message: str, hint: str = "") -> NoReturn:
        raise RelayFileError((Problem(self.file, line, "", message, hint),))

    def _fail(self, message: str, hint: str = "") -> NoReturn:
        self._refuse(self._line_here(), f"not valid JSON: {message}", hint)

    def _line_here(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _skip(self) -> str:
        """Go past blanks; return the character that stands there, or nothing at the end."""
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _value(self, path: PathKey) -> Any:
        first = self._skip()
        self._lines.setdefault(path, self._line_here())
        if len(path) > MAX_DEPTH:
            self._fail("too deeply nested")
        if first == "{":
            return self._object(path)
        if first == "[":
            return self._array(path)
        if first == '"':
            return self._string()
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            self._fail(f"no value begins with {first!r}" if first else "cut off", "numbers are whole, texts are quoted")
        self._at = number.end()
        return int(number.group())

    def _string(self) -> str:
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except JSONDecodeError as err:
            self._at = err.pos
            self._fail(err.msg.lower(), 'a text is closed by "')
        if _CONTROL.search(value):
            self._fail("text with a control character", "remove it")
        self._at = end
        return str(value)

    def _object(self, path: PathKey) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self._at += 1
        while self._skip() != "}" or result:
            if self._text[self._at : self._at + 1] != '"':
                self._fail("a quoted key is missing", "no comma may stand before }")
            line = self._line_here()
            key = self._string()
            here = (*path, key)
            if key in result:
                self._refuse(line, f"{dotted(here)} stands twice (first on line {self._lines[here]})", "remove one")
            self._lines[here] = line
            if self._skip() != ":":
                self._fail("a colon is missing")
            self._at += 1
            result[key] = self._value(here)
            if not self._comma("}"):
                break
        self._at += 1
        return result

    def _array(self, path: PathKey) -> list[Any]:
        result: list[Any] = []
        self._at += 1
        while self._skip() != "]" or result:
            result.append(self._value((*path, len(result))))
            if not self._comma("]"):
                break
        self._at += 1
        return result

    def _comma(self, closing: str) -> bool:
        """Go past a comma; return False at the closing bracket, which stays."""
        found = self._skip()
        if found == ",":
            self._at += 1
            self._skip()
            return True
        if found != closing:
            self._fail(f"a comma or {closing} is missing")
        return False


def dotted(path: PathKey) -> str:
    """Write a path as operators read it: `brokers[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
