# SPDX-License-Identifier: Apache-2.0
"""Any bytes in a file give a parsed document or one EntryFileError, soon and in little memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

from glideinwms_bosco.entry import xml_source
from glideinwms_bosco.entry.xml_source import EntryXml, read_entry_xml
from glideinwms_bosco.errors import EntryFileError, Problem

MAX_SECONDS = 1.0
MAX_MIB = 200

Read = Callable[[bytes], EntryXml]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(text: bytes) -> EntryXml:
        path = tmp_path / "entries.xml"
        path.write_bytes(text)
        return read_entry_xml(path)

    return write_and_read


def _refusal(read: Read, text: bytes) -> Problem:
    with pytest.raises(EntryFileError) as caught:
        read(text)
    (problem,) = caught.value.problems
    return problem


def test_keeps_lines(read: Read) -> None:
    document = read(b"<glidein>\n<entries>\n\n<entry/></entries></glidein>")
    assert [document.line(element) for element in document.root.iter()] == [1, 2, 4]


def test_keeps_lines_beyond_16_bits(read: Read) -> None:
    document = read(b"<glidein>" + b"\n" * 70_000 + b"<!-- <a/> --><entry/></glidein>")
    assert document.line(document.root[-1]) == 70_001


ENTITY = b'<!DOCTYPE glidein [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>\n<glidein>&b;</glidein>'
EXTERNAL = b'<!DOCTYPE glidein [<!ENTITY x SYSTEM "file:///etc/passwd">]><glidein>&x;</glidein>'
PARAMETER = b'<!DOCTYPE glidein [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]><glidein/>'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (ENTITY, 1, "document type"),
        (EXTERNAL, 1, "document type"),
        (PARAMETER, 1, "document type"),
        (
            b'<?xml version="1.0"?>\n<!-- a -->\n<?b c?>\n<!DOCTYPE glidein SYSTEM "x.dtd"><glidein/>',
            4,
            "document type",
        ),
        (b"\xef\xbb\xbf<!DOCTYPE glidein><glidein/>", 1, "document type"),
        (b"<glidein>&x;</glidein>", 1, "well-formed"),
        (b"<glidein>\n\xff</glidein>", 2, "UTF-8"),
        (b"<glidein>\n\n\0</glidein>", 3, "NUL"),
        ("<glidein/>".encode("utf-16"), 1, "NUL"),
        (b'<?xml version="1.0" encoding="utf-7"?><glidein/>', 1, "encoding"),
        (b"", 0, "empty"),
        (b" \n", 0, "empty"),
        (b"<glidein>\n<entry></glidein>", 2, "well-formed"),
        (b"<glidein/>\n<glidein/>", 2, "well-formed"),
        (b"<a>" * 100_000, 1, "well-formed"),
    ],
)
def test_refuses_hostile_or_broken_text(read: Read, text: bytes, line: int, words: str) -> None:
    problem = _refusal(read, text)
    assert problem.line == line
    assert words in problem.message
    assert "\n" not in str(problem)


def test_document_type_inside_a_comment_is_harmless(read: Read) -> None:
    assert read(b"<!-- <!DOCTYPE a> --><glidein><![CDATA[<!DOCTYPE b>]]></glidein>").root.tag == "glidein"


def test_reads_latin_1_that_says_so(read: Read) -> None:
    assert read(b'<?xml version="1.0" encoding="ISO-8859-1"?><glidein a="\xe9"/>').root.get("a") == "é"


def test_includes_no_other_file(read: Read, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    text = b'<glidein xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="secret" parse="text"/></glidein>'
    assert b"secret</" not in etree.tostring(read(text).root)


def test_depth_limit(read: Read) -> None:
    def nested(depth: int) -> bytes:
        return b"<a>" * depth + b"</a>" * depth

    assert read(nested(xml_source.MAX_DEPTH)).root.tag == "a"
    assert "deep" in _refusal(read, nested(xml_source.MAX_DEPTH + 1)).message


@pytest.mark.parametrize(
    ("limit", "text"),
    [("MAX_FILE_BYTES", b"<glidein a=''/>"), ("MAX_MARKUP", b"<a><b/></a>"), ("MAX_ASSIGNMENTS", b"<a b='=='/>")],
)
def test_size_limits(read: Read, monkeypatch: pytest.MonkeyPatch, limit: str, text: bytes) -> None:
    size = {"MAX_FILE_BYTES": len(text), "MAX_MARKUP": text.count(b"<"), "MAX_ASSIGNMENTS": text.count(b"=")}[limit]
    monkeypatch.setattr(xml_source, limit, size)
    read(text)
    monkeypatch.setattr(xml_source, limit, size - 1)
    _refusal(read, text)


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.xml"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "missing.xml", tmp_path / "nul\0.xml"):
        with pytest.raises(EntryFileError):
            read_entry_xml(path)


# The process measures itself; its ru_maxrss would include what the test had at the fork.
_MEASURE = """
import re, sys, time
from pathlib import Path
from glideinwms_bosco.entry.xml_source import read_entry_xml
from glideinwms_bosco.errors import EntryFileError
began = time.monotonic()
try:
    read_entry_xml(Path(sys.argv[1]))
except EntryFileError:
    pass
seconds = time.monotonic() - began
print(seconds, int(re.search("VmHWM: *([0-9]+)", Path("/proc/self/status").read_text().replace("\\t", " "))[1]) / 1024)
"""


@pytest.mark.parametrize(
    ("start", "middle", "count", "end"),
    [
        pytest.param('<glidein a="', "x", 100_000_000, '"/>', id="attribute"),
        pytest.param("<glidein>", "<a/>", 190_000, "</glidein>", id="elements"),
        pytest.param("<glidein>", "<a b='' c=''/>", 190_000, "</glidein>", id="attributes"),
        pytest.param("<glidein>", "<a>", 1_000_000, "", id="depth"),
        pytest.param("<glidein>" + "\n" * 70_000, "<a/>\n", 190_000, "</glidein>", id="lines"),
    ],
)
def test_hostile_text_costs_little(tmp_path: Path, start: str, middle: str, count: int, end: str) -> None:
    path = tmp_path / "hostile.xml"
    path.write_text(start + middle * count + end, encoding="utf-8")
    argv = [sys.executable, "-c", _MEASURE, str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    seconds, mib = map(float, done.stdout.split())
    assert seconds < MAX_SECONDS
    assert mib < MAX_MIB
