# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the files of a SITECONF: real ones keep their meaning, hostile ones are refused at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glideinwms_bosco.errors import SiteconfError, SiteconfFileError
from glideinwms_bosco.siteconf.model import (
    CatalogRef,
    CatalogRule,
    Frontier,
    LocalConnect,
    LocalStageOut,
    SiteLocalConfig,
    SourceConfig,
    StageOutMethod,
    StorageItem,
    StorageProtocol,
    StorageRule,
)
from glideinwms_bosco.siteconf.read_config import parse_config, read_config
from glideinwms_bosco.siteconf.storage_json import MAX_ITEMS, parse_storage, read_storage, write_storage
from glideinwms_bosco.siteconf.text_file import MAX_FILE_BYTES, MAX_LINES
from glideinwms_bosco.siteconf.tfc import parse_catalog, read_catalog, write_catalog
from glideinwms_bosco.siteconf.write_config import write_config, write_pieces
from glideinwms_bosco.siteconf.xml_file import MAX_DEPTH, MAX_MARKUP
from tests.unit.cmssw_rules import read_as_cmssw
from tests.unit.siteconf_world import REAL
from tests.unit.wmcore_reader import read_as_wmcore

CONFIG = "JobConfig/site-local-config.xml"
REAL_CONFIGS = ("T2_FI_HIP", "local")
LFN = "/store/user/someone/file.root"

FULL = SiteLocalConfig(
    site="T3_US_HPC",
    subsite="GPU",
    event_data=("trivialcatalog_file:/a?protocol=b&c=d",),
    data_access=(CatalogRef("T1_US_FNAL", "American_Federation", "XRootD"), CatalogRef(None, "Own", "WebDAV")),
    local_stage_out=LocalStageOut("gfal2", "-a '\"<&>\"'", "trivialcatalog_file:/a?protocol=b", "se.example.org", "T3"),
    fallback_stage_outs=(LocalStageOut("xrdcp", lfn_prefix="root://a//", phedex_node="T3"),),
    stage_out=(StageOutMethod(None, "Own", "WebDAV", "gfal2", "-a\tb"), StageOutMethod("T1", "V", "P")),
    frontier=Frontier(
        "proxies", False, ("http://a:1",), ("http://b:1",), ("http://c:1/F",), ("http://d/p.dat",), "0",
        (("parentproxy", (("url", "http://e"), ("weight", "3"))),),
    ),
    source_config=SourceConfig("$TMPDIR", "10", "a", "b", "c", "1", "2", ("file", "dcache"), "h:1", "dn nodn", "true"),
)  # fmt: skip
STORAGE = (
    StorageItem("T3", "Own", "DISK", None, ("https://fts:1",), (StorageProtocol("XRootD", "global-ro", "root://a/"),)),
    StorageItem("T3", "Two", None, "T3_Two", (), (
        StorageProtocol("pnfs", "virtual", None, (StorageRule("/(.*)", "/p/$1"),)),
        StorageProtocol("WebDAV", None, None, (StorageRule("/(.*)", "davs://a/$1", "pnfs"),)),
    )),
)  # fmt: skip


def test_every_field_is_written_and_read_back() -> None:
    assert parse_config(write_config(FULL).decode(), "x") == FULL


@pytest.mark.parametrize(
    "config",
    [
        SiteLocalConfig(""),
        SiteLocalConfig("T3", frontier=Frontier()),
        SiteLocalConfig("T3", local_connect=LocalConnect("a", "b")),
        SiteLocalConfig("T3", frontier=Frontier(failover_to_server=True), local_connect=LocalConnect()),
        SiteLocalConfig("T3", source_config=SourceConfig(), local_stage_out=LocalStageOut()),
    ],
)
def test_what_readers_refuse_can_be_written_too(config: SiteLocalConfig) -> None:
    """`check` reports it, and its tests need such files."""
    assert parse_config(write_config(config).decode(), "x") == config


def test_storage_is_written_and_read_back() -> None:
    assert parse_storage(write_storage(STORAGE).decode(), "x") == STORAGE
    assert write_storage(()) == b"[]\n"


@pytest.mark.parametrize("node", REAL_CONFIGS)
def test_real_files_keep_their_meaning(node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(REAL / node / CONFIG)
    again = write_config(config)
    assert parse_config(again.decode(), "x") == config
    catalog = read_catalog(REAL / node / "PhEDEx" / "storage.xml")
    assert parse_catalog(write_catalog(catalog).decode(), "x") == catalog
    # The readers must see no difference either.
    for sibling in {ref.site for ref in config.data_access if ref.site}:
        (tmp_path / sibling).mkdir()
        (tmp_path / sibling / "storage.json").write_bytes(write_storage(read_storage(REAL / sibling / "storage.json")))
    (tmp_path / node / "JobConfig").mkdir(parents=True)
    (tmp_path / node / CONFIG).write_bytes(again)
    (tmp_path / node / "storage.json").write_bytes(write_storage(read_storage(REAL / node / "storage.json")))
    before, after = read_as_cmssw(REAL / node), read_as_cmssw(tmp_path / node)
    assert after.pfns(LFN) == before.pfns(LFN)
    keys = ("serverurl", "proxyurl", "backupproxyurl", "proxyconfigurl", "preferipfamily")
    assert {key: after.frontier_values(key) for key in keys} == {key: before.frontier_values(key) for key in keys}
    assert len(after.frontier) == len(before.frontier)
    assert after.source == before.source
    seen = [list(read_as_wmcore(top, monkeypatch, node).stage_outs(LFN)) for top in (REAL, tmp_path)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("node", [*REAL_CONFIGS, "T1_IT_CNAF"])
def test_real_storage_keeps_its_meaning(node: str) -> None:
    items = read_storage(REAL / node / "storage.json")
    assert parse_storage(write_storage(items).decode(), "x") == items
    assert not any(item.rse_missing for item in items)


def test_real_configuration_is_read_with_its_lines() -> None:
    config = read_config(REAL / "T2_FI_HIP" / CONFIG)
    assert (config.site, config.lines["site"]) == ("T2_FI_HIP", 4)
    assert config.lines["event_data[2]"] == 9
    assert [(ref.site, ref.volume, ref.line) for ref in config.data_access] == [
        (None, "CERN_IBEOS", 12),
        (None, "HIP_dCache", 13),
        ("T1_IT_CNAF", "Eurasian_Federation", 14),
    ]
    assert config.local_stage_out == LocalStageOut(
        "gfal2",
        None,
        "trivialcatalog_file:///cvmfs/cms-ib.cern.ch/SITECONF/T2_FI_HIP/PhEDEx/storage.xml?protocol=davs",
        "hip-cms-se.csc.fi",
        "T2_FI_HIP",
    )
    assert config.frontier is not None
    assert config.frontier.proxies == ("http://frontier-vm.hip.helsinki.fi:3128",)
    assert config.frontier.backup_proxies == ("http://cmsbpfrontier.cern.ch:3128", "http://cmsbproxy.fnal.gov:3128")
    assert config.frontier.failover_to_server is None
    assert config.source_config is not None
    assert config.source_config.cache_temp_dir == ".:$TMPDIR"
    items = read_storage(REAL / "T2_FI_HIP" / "storage.json")
    assert [(item.volume, item.rse, item.line) for item in items] == [
        ("HIP_dCache", "T2_FI_HIP", 2),
        ("CERN_IBEOS", "T2_FI_HIP", 19),
    ]
    assert items[0].protocols[1].line == 9
    catalog = read_catalog(REAL / "T2_FI_HIP" / "PhEDEx" / "storage.xml")
    assert [(rule.kind, rule.protocol, rule.line) for rule in catalog[:3]] == [
        ("lfn-to-pfn", "ibeos", 9),
        ("lfn-to-pfn", "davs", 12),
        ("pfn-to-lfn", "davs", 14),
    ]


@pytest.mark.parametrize(
    ("config", "cut"), [(FULL, True), (replace(FULL, frontier=None, local_connect=LocalConnect("a", "b")), False)]
)
def test_pieces_are_the_document(config: SiteLocalConfig, cut: bool) -> None:
    pieces = write_pieces(config)
    assert (pieces is not None) == cut
    if pieces is not None:
        assert b"".join(pieces) == write_config(config)
        assert b"proxy url" not in pieces[0]


@pytest.mark.parametrize("bad", ["a\0b", "a\x1bb", "\ud800"])
def test_refuses_to_write_what_xml_and_json_cannot_hold(bad: str) -> None:
    with pytest.raises(SiteconfError):
        write_config(SiteLocalConfig(bad))
    with pytest.raises(SiteconfError):
        write_catalog([CatalogRule("lfn-to-pfn", "a", bad, "b")])
    with pytest.raises(SiteconfError):
        write_storage([replace(STORAGE[0], volume=bad)])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "is empty"),
        ("<a/>", 1, "its root element is <a>"),
        ("<site-local-config>\n</site-local-config>", 1, "has no <site>"),
        ("<site-local-config>\n<site name='A'/>\n<site name='B'/></site-local-config>", 3, "has a second <site>"),
        ("<site-local-config>\n<site>\n</site-local-config>", 3, "is no well-formed XML"),
        ("<site-local-config>\n<site name='A' name='B'/></site-local-config>", 2, "is no well-formed XML"),
        ("<site-local-config><site name='&own;'/></site-local-config>", 1, "is no well-formed XML: Entity"),
        ("<!--\n--><!DOCTYPE a>\n<site-local-config/>", 2, "has a document type"),
        ("<site-local-config>\n\0</site-local-config>", 2, "has a NUL byte"),
        ("<x>" * (MAX_DEPTH + 1) + "</x>" * (MAX_DEPTH + 1), 0, f"has elements more than {MAX_DEPTH} deep"),
        ("<x>" + "<y/>" * MAX_MARKUP + "</x>", 0, f"has more than {MAX_MARKUP} tags"),
    ],
)
def test_broken_configuration_is_refused_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "site-local-config.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SiteconfFileError) as caught:
        read_config(path)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert problem.message.startswith(message)


def test_depth_and_number_of_tags_are_allowed_up_to_the_limit() -> None:
    inner = "<x>" * (MAX_DEPTH - 2) + "</x>" * (MAX_DEPTH - 2)
    many = "<y/>" * (MAX_MARKUP - 2 * MAX_DEPTH - 4)
    text = f"<site-local-config><site name='A'>{inner}{many}</site></site-local-config>"
    assert parse_config(text, "x").site == "A"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("{}", 1, "is not a list of volumes"),
        ('[\n"a"]', 2, "[0]: must be a block of fields"),
        ('[{"site": "A",\n"volume": 1, "protocols": []}]', 2, "[0].volume: must be text"),
        ('[{"site": "A", "volume": "B"}]', 1, "[0].protocols: missing"),
        ('[{"site": "A", "volume": "B", "protocols": [{\n"protocol": "C"}]}]', 1, "[0].protocols[0].rules: missing"),
        ('[{"site": "A", "volume": "B", "protocols": [],\n"rse": 3}]', 2, "[0].rse: must be text or null"),
        ('[{"site": "A", "volume": "B", "protocols": [],\n"fts": "x"}]', 2, "[0].fts: must be a list of texts"),
        ('[{"site": "A",\n"site": "B"}]', 2, "site: stands twice"),
        ('[], "more": []', 1, "text behind the end"),
        ("[]]", 1, "a comma or } must stand here"),
        ("[]} {", 1, "text behind the end of the JSON value"),
        ("[" * 40, 1, "too deeply nested"),
        ("[1.5]", 1, "no JSON value here"),
    ],
)
def test_broken_storage_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SiteconfFileError) as caught:
        parse_storage(text, "storage.json")
    problem = caught.value.problems[0]
    assert problem.line == line
    assert message in str(problem)


def test_list_of_storage_is_bounded() -> None:
    item = '{"site": "A", "volume": "B", "protocols": []}'
    assert len(parse_storage(f"[{','.join([item] * MAX_ITEMS)}]", "x")) == MAX_ITEMS
    with pytest.raises(SiteconfFileError, match=f"a list of at most {MAX_ITEMS}"):
        parse_storage(f"[{','.join([item] * (MAX_ITEMS + 1))}]", "x")


def test_missing_storage_element_is_told_from_null() -> None:
    (item,) = parse_storage('[{"site": "A", "volume": "B", "protocols": []}]', "x")
    assert item.rse_missing


@pytest.mark.parametrize("size", [MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_size_is_limited(tmp_path: Path, size: int) -> None:
    path = tmp_path / "storage.json"
    path.write_bytes(b"[]".ljust(size))
    if size > MAX_FILE_BYTES:
        with pytest.raises(SiteconfFileError, match=f"is larger than {MAX_FILE_BYTES} bytes"):
            read_storage(path)
    else:
        assert read_storage(path) == ()


def test_special_files_and_circles_of_links_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name, message in (("pipe", "is not a regular file"), ("a", "cannot be read"), (".", "regular|read")):
        for read in (read_config, read_storage, read_catalog):
            with pytest.raises(SiteconfFileError, match=message):
                read(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Parses or raises SiteconfFileError, nothing else; what it parses it can write."""
    read, write, name = data.draw(st.sampled_from(_FORMATS))
    text = (REAL / "local" / name).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 40, len(text))))
        text = text[:start] + data.draw(st.text(st.characters(max_codepoint=0x250), max_size=12)) + text[end:]
    with contextlib.suppress(SiteconfFileError):
        found = read(text, "x")
        with contextlib.suppress(SiteconfError):
            assert read(write(found).decode(), "x") == found


_FORMATS: tuple[tuple[Any, Any, str], ...] = (
    (parse_config, write_config, CONFIG),
    (parse_storage, write_storage, "storage.json"),
    (parse_catalog, write_catalog, "PhEDEx/storage.xml"),
)

BOMB = '<!DOCTYPE a [<!ENTITY a0 "aaaaaaaaaa">' + "".join(
    f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)
)
HOSTILE: dict[str, bytes] = {
    "bomb-in-text": f"{BOMB}]><site-local-config>&a11;</site-local-config>".encode(),
    "bomb-in-attribute": f'{BOMB}]><site-local-config><site name="&a11;"/></site-local-config>'.encode(),
    "bomb-in-utf-16": f'<?xml version="1.0" encoding="UTF-16"?>{BOMB}]><a>&a11;</a>'.encode("utf-16"),
    "bomb-in-utf-7": b'<?xml version="1.0"' + b" " * 500 + b'encoding="UTF-7"?>+ADwAIQ-DOCTYPE a><a/>',
    "external-entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "deep": b"<a>" * 80_000,
    "deep-json": b"[" * 200_000,
    "wide": b"<a>" + b"<b/>" * 60_000 + b"</a>",
    "many-attributes": b"<a " + b" ".join(b'a%d="1"' % i for i in range(20_000)) + b"/>",
    "long-attribute": b'<a b="' + b"c" * (MAX_FILE_BYTES - 100) + b'"/>',
    "many-lines": b"\n" * (MAX_LINES + 1) + b"<a/>",
    "many-values": b"[" + b"1," * 120_000 + b"1]",
    "many-keys": b"[{" + b",".join(b'"%d":1' % i for i in range(25_000)) + b"}]",
    "many-objects": b"[" + b"{}," * 80_000 + b"{}]",
    "huge": b"<a>" + b"x" * 50_000_000,
}
_READ_ALL = """
import sys, time
from pathlib import Path
from glideinwms_bosco.errors import SiteconfFileError
from glideinwms_bosco.siteconf import read_config, storage_json, tfc

def peak_kb():
    # Not ru_maxrss, which starts with that of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

before = peak_kb()
for read in (read_config.read_config, storage_json.read_storage, tfc.read_catalog):
    start = time.process_time()
    try:
        read(Path(sys.argv[1]))
    except SiteconfFileError:
        print(int((time.process_time() - start) * 1000), peak_kb() - before)
"""
MAX_MS = 1000
MAX_MORE_KB = 64 * 1024


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_within_a_second_and_little_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(HOSTILE[name])
    done = subprocess.run(
        [sys.executable, "-c", _READ_ALL, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 3, "each reader refuses it"
    for took_ms, more_kb in rows:
        assert int(took_ms) < MAX_MS
        assert int(more_kb) < MAX_MORE_KB
