# SPDX-License-Identifier: Apache-2.0
"""Read a JSON file into plain values and remember the line of each of them, as `site.yaml_source` does for YAML.

Stricter than RFC 8259 where two readers could differ: no doubled keys, no fractions, no control characters in text.
Standard library only: the gahp launcher reads relay.conf at each start. Any room may import this, as it may `errors`.
"""

from __future__ import annotations

import bisect
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Union

from glideinwms_bosco.errors import FileProblemsError, Problem

MAX_FILE_BYTES = 4 << 20
"""Largest file read, bytes: some thousand handles."""
MAX_DEPTH = 16
"""Deepest nesting; the broker's policy needs eight levels."""

PathKey = tuple[Union[str, int], ...]
"""Where a value stands: `("handles", "juwels-cms", "user")`."""
Refusal = type[FileProblemsError]
"""The class of error that a file of this kind is refused with."""

_UNREADABLE = {
    errno.ENOENT: "check the path",
    errno.EISDIR: "a file must stand there",
    errno.ELOOP: "its links lead in a circle",
}

_BLANK = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?![0-9.eE])")
_WORD = re.compile(r"(?:true|false|null)(?![A-Za-z0-9_])")
# Line breaks, control characters and half surrogates: no field needs them, and they would break lines elsewhere.
_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class JsonSource:
    """A parsed file: `data` (dict, list, str, int, bool, None) and the line of each value.

    Args:
        text: the whole file.
        file: how messages name it.
        refusal: what is raised.

    Raises:
        FileProblemsError: not JSON, not an object, doubled keys, fractions, control characters in text.
    """

    def __init__(self, text: str, file: str, refusal: Refusal) -> None:
        self.file = file
        self.text = text
        self._refusal = refusal
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[PathKey, int] = {}
        data = self._value(())
        self._blank()
        if self._at < len(text):
            raise self._fail("text behind the end of the JSON value", "remove it")
        if not isinstance(data, dict):
            raise self._fail("the file must be one JSON object", "start it with { and end it with }", 1)
        self.data: dict[str, Any] = data

    @classmethod
    def read(cls, path: Path, refusal: Refusal, not_writable_by: int = 0, ours: bool = False) -> JsonSource:
        """Parse a file.

        Args:
            not_writable_by: permission bits that it must not have, for a file that decides about access.
            ours: it must belong to root or to the process's user.

        Raises:
            FileProblemsError: also when it cannot be read, is too large or not UTF-8, or others may write it.
        """
        return cls(_read(path, refusal, not_writable_by, ours), str(path), refusal)

    def line(self, path: PathKey) -> int:
        """Line of the value at `path`, or of the nearest parent that stands in the file."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def problem(self, path: PathKey, message: str, hint: str = "") -> Problem:
        """A finding about the value at `path`."""
        return Problem(self.file, self.line(path), dotted(path), message, hint)

    def _fail(self, message: str, hint: str = "", line: int = 0, path: PathKey = ()) -> FileProblemsError:
        where = line or self._here()
        return self._refusal((Problem(self.file, where, dotted(path), message, hint),))

    def _here(self) -> int:
        return bisect.bisect_left(self._breaks, self._at) + 1

    def _blank(self) -> None:
        match = _BLANK.match(self.text, self._at)
        self._at = match.end() if match else self._at

    def _next(self, token: str) -> bool:
        """Take a mark if it stands here."""
        self._blank()
        if not self.text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _value(self, path: PathKey) -> Any:
        self._blank()
        if len(path) > MAX_DEPTH:
            raise self._fail("too deeply nested")
        self._lines.setdefault(path, self._here())
        if self._next("{"):
            return self._object(path)
        if self._next("["):
            return self._array(path)
        if self.text.startswith('"', self._at):
            return self._string(path)
        for pattern in (_INTEGER, _WORD):
            match = pattern.match(self.text, self._at)
            if match:
                self._at = match.end()
                return json.loads(match.group())
        rest = self.text[self._at : self._at + 20].split("\n")[0]
        hint = "whole numbers only" if re.match(r"-?[0-9]", rest) else "text stands in double quotes"
        raise self._fail(f"no JSON value here: {rest!r}" if rest else "a value is missing", hint, path=path)

    def _string(self, path: PathKey) -> str:
        match = _STRING.match(self.text, self._at)
        if match is None:
            raise self._fail("a text does not end, or has a bad escape in it", 'close it with "', path=path)
        value = str(json.loads(match.group()))
        if _UNUSABLE.search(value):
            raise self._fail("has a line break or control character", "write it on one line", path=path)
        self._at = match.end()
        return value

    def _object(self, path: PathKey) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if self._next("}"):
            return result
        while True:
            self._blank()
            if not self.text.startswith('"', self._at):
                raise self._fail("a key in double quotes must stand here", "is there a comma too many?", path=path)
            line = self._here()
            key = self._string(path)
            here = (*path, key)
            if key in result:
                first = self._lines[here]
                raise self._fail(f"stands twice (first on line {first})", "remove one of them", line, here)
            self._lines[here] = line
            if not self._next(":"):
                raise self._fail("a colon must stand behind the key", path=here)
            result[key] = self._value(here)
            if self._next("}"):
                return result
            if not self._next(","):
                raise self._fail("a comma or } must stand here", path=here)

    def _array(self, path: PathKey) -> list[Any]:
        result: list[Any] = []
        if self._next("]"):
            return result
        while True:
            result.append(self._value((*path, len(result))))
            if self._next("]"):
                return result
            if not self._next(","):
                raise self._fail("a comma or ] must stand here", path=path)


def _read(path: Path, refusal: Refusal, not_writable_by: int, ours: bool) -> str:
    def fail(line: int, message: str, hint: str = "") -> FileProblemsError:
        return refusal((Problem(str(path), line, "", message, hint),))

    try:
        # Without O_NONBLOCK opening a pipe waits for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise fail(0, "is not a regular file", "name a JSON file")
            if found.st_mode & not_writable_by:
                raise fail(0, "may be written by others, and decides who may log in where", f"chmod go-w {path}")
            if ours and os.geteuid() and found.st_uid not in (0, os.geteuid()):
                raise fail(0, f"belongs to another user (uid {found.st_uid})", f"chown root {path}")
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        raise fail(0, f"cannot be read: {err.strerror}", unreadable_hint(err)) from None
    if len(raw) > MAX_FILE_BYTES:
        raise fail(0, f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise fail(raw.count(b"\n", 0, err.start) + 1, "not UTF-8 text", "save the file as UTF-8") from None


def unreadable_hint(error: OSError) -> str:
    """What to do about a file that cannot be read."""
    return _UNREADABLE.get(error.errno or 0, "check the path and its permissions")


def dotted(path: PathKey) -> str:
    """Write a path as operators read it: `handles.juwels-cms.hosts[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
