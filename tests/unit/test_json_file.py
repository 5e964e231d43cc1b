# SPDX-License-Identifier: Apache-2.0
"""JSON with lines: what is read, and how a file that is no strict JSON is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glideinwms_bosco.errors import PolicyFileError, RelayFileError
from glideinwms_bosco.json_file import MAX_DEPTH, MAX_FILE_BYTES, JsonSource

NO_JSON = {
    "comma too many": ('{\n "version": 1,\n}', 3, "comma too many"),
    "comma missing": ('{\n "a": 1\n "b": 2}', 3, "a comma or }"),
    "comment": ('{\n // x\n "a": 1}', 2, "in double quotes"),
    "doubled key": ('{\n "a": 1,\n\n "a": 2}', 4, "stands twice (first on line 2)"),
    "fraction": ('{"a":\n 1.5}', 2, "whole numbers only"),
    "exponent": ('{"a": 1e3}', 1, "whole numbers only"),
    "leading zero": ('{"a": 01}', 1, "no JSON value"),
    "NaN": ('{"a": NaN}', 1, "no JSON value"),
    "single quotes": ("{'a': 1}", 1, "double quotes"),
    "open text": ('{"a": "x\n}', 1, "does not end"),
    "line break in a text": ('{"a": "x\\ny"}', 1, "control character"),
    "half a surrogate": ('{"a": "\\ud800"}', 1, "control character"),
    "nothing": ("", 1, "a value is missing"),
    "a list": ("[]", 1, "one JSON object"),
    "two values": ("{}\n{}", 2, "behind the end"),
    "too deep": ("[" * (MAX_DEPTH + 2), 1, "too deeply nested"),
    "number too long": ('{"a": ' + "9" * 19 + "}", 1, "whole numbers"),
}


@pytest.mark.parametrize("name", NO_JSON)
def test_refuses_what_is_no_strict_json(name: str) -> None:
    text, line, words = NO_JSON[name]
    with pytest.raises(PolicyFileError) as caught:
        JsonSource(text, "p.json", PolicyFileError)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("p.json", line)
    assert words in str(problem)


def test_reads_any_valid_json_as_the_standard_reader_does() -> None:
    text = '{"a": [1, -2, 0, true, false, null, "\\u00e4\\"\\\\/é", {}, []], "b": {"c": " "}}'
    assert JsonSource(text, "p", PolicyFileError).data == json.loads(text)
    deepest = '{"a":' + "[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1) + "}"
    assert JsonSource(deepest, "p", PolicyFileError).data == json.loads(deepest)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b'{\n"\xe4": 1}')
    (tmp_path / "large").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    for name, line, words in (
        ("none", 0, "No such file"),
        ("pipe", 0, "not a regular file"),
        ("latin", 2, "not UTF-8"),
        ("large", 0, "larger"),
    ):
        with pytest.raises(RelayFileError) as caught:
            JsonSource.read(tmp_path / name, RelayFileError)
        assert caught.value.problems[0].line == line
        assert words in str(caught.value)


def test_every_value_has_its_line() -> None:
    source = JsonSource('{\n "a": [\n  1,\n  {"b":\n   2}]}', "p", PolicyFileError)
    assert [source.line(path) for path in ((), ("a",), ("a", 0), ("a", 1, "b"), ("a", 1, "gone"), ("none",))] == [
        *(1, 2, 3, 4, 4, 1)
    ]
    assert str(source.problem(("a", 1, "b"), "is wrong")) == "p:4: error: a[1].b: is wrong"


def test_is_read_without_loading_a_schema_or_crypto_library() -> None:
    """The gahp launcher starts once for each gahp."""
    script = "import sys, glideinwms_bosco.relay.launcher; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "glideinwms_bosco.json_file" in done.stdout.split()
    assert not {"jsonschema", "cryptography", "yaml"} & set(done.stdout.split())
