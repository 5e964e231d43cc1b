# SPDX-License-Identifier: Apache-2.0
"""What is rendered from a site's block, as the real WMCore and CMSSW's rules read it."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glideinwms_bosco.errors import SiteconfError, SiteconfFileError
from glideinwms_bosco.site.load import describe_site
from glideinwms_bosco.siteconf.model import Link
from glideinwms_bosco.siteconf.render import TOP, archive_files, site_files
from tests.unit.cmssw_rules import CmsswView, read_as_cmssw
from tests.unit.siteconf_world import CNAF, HIP, LFN, SMALLEST, STAGE_OUT, site_with, write_tree
from tests.unit.wmcore_reader import WMCoreView, read_as_wmcore

EURASIAN = "root://xrootd-cms.infn.it//store/mc/Run3/file.root"
AMERICAN = "root://cmsxrootd.fnal.gov//store/mc/Run3/file.root"
GLOBAL = "root://cms-xrd-global.cern.ch//store/mc/Run3/file.root"
CEPH = {
    "volume": "CEPH",
    "protocols": [
        {"protocol": "pnfs", "access": "virtual", "rules": [{"lfn": "/+(.*)", "pfn": "/pnfs/cms/$1"}]},
        {
            "protocol": "WebDAV",
            "access": "site-rw",
            "rules": [
                {"lfn": "/+store/temp/(.*)", "pfn": "davs://scratch.example.org/$1"},
                {"lfn": "/+(.*)", "pfn": "davs://ceph.example.org:2880/$1", "chain": "pnfs"},
            ],
        },
        {"protocol": "XRootD", "access": "site-ro", "prefix": "root://ceph.example.org/"},
    ],
    "rse": "T3_US_HPC_Scratch",
}

# Each: part of a block, PFNs of `data_access` in order.
READS: Mapping[str, tuple[dict[str, Any], list[str]]] = {
    "preset": ({}, [AMERICAN, EURASIAN, GLOBAL]),
    "sibling": (
        {"data_access": [{"site": "T1_IT_CNAF", "volume": "Eurasian_Federation", "protocol": "XRootD"}]},
        [EURASIAN],
    ),
    "own-and-sibling": (
        {
            "data_access": [
                {"volume": "CEPH", "protocol": "WebDAV"},
                {"site": "T3_US_HPC", "volume": "CEPH", "protocol": "XRootD"},
                {"site": "T2_FI_HIP", "volume": "HIP_dCache", "protocol": "XRootD"},
            ],
            "storage": [CEPH],
        },
        [
            "davs://ceph.example.org:2880/pnfs/cms/store/mc/Run3/file.root",
            "root://ceph.example.org//store/mc/Run3/file.root",
            "root://hip-cms-se.csc.fi:1094//store/mc/Run3/file.root",
        ],
    ),
}
# Each: part of a block; command, option, storage element, PFN of each way out.
WRITES: Mapping[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "near": (
        {"stage_out": [STAGE_OUT]},
        [("gfal2", None, "T2_FI_HIP", "davs://hip-cms-se.csc.fi:2880//store/mc/Run3/file.root")],
    ),
    "two-ways": (
        {
            "stage_out": [
                {"site": "T1_IT_CNAF", "volume": "CNAF_GPFS", "protocol": "WebDAV", "option": "--a=\"<b>\" & 'c'"},
                {**STAGE_OUT, "protocol": "XRootD", "command": "xrdcp"},
            ]
        },
        [
            (
                "gfal2",
                "--a=\"<b>\" & 'c'",
                "T1_IT_CNAF_Disk",
                "davs://xfer-cms.cr.cnaf.infn.it:8443/cmsdisk/store/mc/Run3/file.root",
            ),
            ("xrdcp", None, "T2_FI_HIP", "root://hip-cms-se.csc.fi:1094//store/mc/Run3/file.root"),
        ],
    ),
}
FRONTIERS: Mapping[str, dict[str, Any]] = {
    "default": {},
    "own": {
        "frontier": {
            "servers": ["http://frontier.example.org:8000/Frontier1", "http://frontier.example.org:8000/Frontier2"],
            "proxies": ["http://squid.example.org:3128", "http://[2001:db8::1]:3128"],
            "backup_proxies": [],
            "load_balance": "proxies",
            "failover_to_server": True,
            "prefer_ip_family": 6,
        }
    },
}


def used_siblings(block: Mapping[str, Any]) -> dict[str, str]:
    named = {ref.get("site") for ref in (*block.get("data_access", ()), *block["stage_out"])}
    return {name: folder for name, folder in {**HIP, **CNAF}.items() if name in named}


def both_views(tree: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[WMCoreView, CmsswView]:
    return read_as_wmcore(tree, monkeypatch), read_as_cmssw(tree / "local")


def check_agreement(wmcore: WMCoreView, cmssw: CmsswView, lfn: str) -> None:
    """Old elements and new ones, and both readers, must say the same."""
    by_new = cmssw.pfns(lfn)
    assert [wmcore.old_pfn(url, lfn) for url in cmssw.trivial] == by_new
    assert [wmcore.pfn(*catalog[2:], lfn) for catalog in cmssw.catalogs] == by_new
    assert wmcore.config.eventData["catalog"] == cmssw.trivial[-1]
    assert wmcore.config.siteName == cmssw.site
    assert (wmcore.config.subSiteName or "") == cmssw.subsite
    ways = list(wmcore.stage_outs(lfn))
    old = wmcore.config.localStageOut
    assert (old["command"], old.get("option"), wmcore.old_pfn(old["catalog"], lfn)) == (*ways[0][:2], ways[0][3])
    if wmcore.config.fallbackStageOut:
        (fallback,) = wmcore.config.fallbackStageOut
        assert (fallback["command"], fallback["lfn-prefix"] + lfn) == (ways[1][0], ways[1][3])
    assert cmssw.frontier_values("proxyurl") == wmcore.config.frontierProxies
    assert cmssw.frontier_values("serverurl") == wmcore.config.frontierServers


@pytest.mark.parametrize(
    ("subsite", "reads", "writes", "frontier"),
    list(itertools.product((None, "GPU-Nodes"), READS, WRITES, FRONTIERS)),
)
def test_both_readers_find_what_the_block_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subsite: str, reads: str, writes: str, frontier: str
) -> None:
    block = {"site": "T3_US_HPC", **READS[reads][0], **WRITES[writes][0], **FRONTIERS[frontier]}
    block["siblings"] = used_siblings(block)
    if subsite:
        block["subsite"] = subsite
    tree = write_tree(site_files(site_with(tmp_path, block)), tmp_path / "SITECONF")
    wmcore, cmssw = both_views(tree, monkeypatch)
    assert cmssw.pfns(LFN) == READS[reads][1]
    assert list(wmcore.stage_outs(LFN)) == WRITES[writes][1]
    assert (cmssw.site, cmssw.subsite) == ("T3_US_HPC", subsite or "")
    check_agreement(wmcore, cmssw, LFN)
    assert len(wmcore.config.fallbackStageOut) == len(WRITES[writes][1]) - 1
    given = FRONTIERS[frontier].get("frontier", {})
    assert wmcore.config.frontierProxies == given.get("proxies", [])
    assert cmssw.frontier_values("failovertoserver") == ["yes" if given else "no"]


def test_default_frontier_connection_asks_no_server_directly(tmp_path: Path) -> None:
    view = read_as_cmssw(write_tree(site_files(site_with(tmp_path, SMALLEST)), tmp_path / "tree") / "local")
    assert view.frontier == (
        "(failovertoserver=no)"
        "(backupproxyurl=http://cmsbpfrontier.cern.ch:3128)(backupproxyurl=http://cmsbproxy.fnal.gov:3128)"
        "(serverurl=http://cmsfrontier.cern.ch:8000/FrontierInt)(serverurl=http://cmsfrontier1.cern.ch:8000/FrontierInt)"
        "(serverurl=http://cmsfrontier2.cern.ch:8000/FrontierInt)"
        "(serverurl=http://cmsfrontier3.cern.ch:8000/FrontierInt)"
        "(serverurl=http://cmsfrontier4.cern.ch:8000/FrontierInt)"
    )


def test_all_of_frontier_reaches_the_connect_string(tmp_path: Path) -> None:
    view = read_as_cmssw(
        write_tree(site_files(site_with(tmp_path, {**SMALLEST, **FRONTIERS["own"]})), tmp_path / "tree") / "local"
    )
    assert view.frontier == (
        "(loadbalance=proxies)(failovertoserver=yes)(preferipfamily=6)"
        "(proxyurl=http://squid.example.org:3128)(proxyurl=http://[2001:db8::1]:3128)"
        "(serverurl=http://frontier.example.org:8000/Frontier1)(serverurl=http://frontier.example.org:8000/Frontier2)"
    )


def test_site_outside_america_reads_by_the_eurasian_federation_first(tmp_path: Path) -> None:
    files = site_files(site_with(tmp_path, {**SMALLEST, "site": "T3_DE_HPC"}))
    assert read_as_cmssw(write_tree(files, tmp_path / "tree") / "local").pfns(LFN) == [EURASIAN, AMERICAN, GLOBAL]


def test_preset_leaves_a_volume_of_the_same_name_alone(tmp_path: Path) -> None:
    cache = {
        "volume": "Global_Federation",
        "protocols": [{"protocol": "XRootD", "prefix": "root://xcache.example.org/"}],
    }
    files = site_files(site_with(tmp_path, {**SMALLEST, "storage": [cache]}))
    found = read_as_cmssw(write_tree(files, tmp_path / "tree") / "local").pfns(LFN)
    assert found == [AMERICAN, EURASIAN, "root://xcache.example.org//store/mc/Run3/file.root"]


def test_first_rule_that_matches_is_used_in_both_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = {**SMALLEST, **READS["own-and-sibling"][0]}
    tree = write_tree(site_files(site_with(tmp_path, block)), tmp_path / "tree")
    wmcore, cmssw = both_views(tree, monkeypatch)
    assert cmssw.pfns("/store/temp/x.root")[0] == "davs://scratch.example.org/x.root"
    check_agreement(wmcore, cmssw, "/store/temp/x.root")


def test_conditions_may_come_out_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = {**SMALLEST, "local_connect": {"prefix": "sqlite_file:/data/", "suffix": ".db"}}
    site = site_with(tmp_path, block)
    wmcore, cmssw = both_views(write_tree(site_files(site), tmp_path / "tree"), monkeypatch)
    assert (cmssw.frontier, cmssw.local_connect) == ("", ("sqlite_file:/data/", ".db"))
    assert wmcore.config.frontierServers == []
    # Nothing is found on the node that would belong into it.
    assert f"{TOP}/T3_US_HPC/JobConfig/site-local-config.xml" in archive_files(site)


def test_source_config_reaches_cmssw(tmp_path: Path) -> None:
    config = {
        "cache_hint": "lazy-download",
        "cache_min_free": 10,
        "prefetching": True,
        "statistics_destination": "udpmon.example.org:9331",
    }
    view = read_as_cmssw(
        write_tree(site_files(site_with(tmp_path, {**SMALLEST, "source_config": config})), tmp_path / "tree") / "local"
    )
    assert view.source == {
        "cache-hint": "lazy-download",
        "cache-min-free": "10",
        "prefetching": "true",
        "statistics-destination": "udpmon.example.org:9331",
    }


def test_old_elements_can_be_said_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "trivialcatalog_file:/etc/cvmfs/SITECONF/T3_US_HPC/PhEDEx/storage.xml?protocol=old"
    block = {
        **SMALLEST,
        "event_data": [url],
        "phedex_catalog": [{"protocol": "old", "match": "/+store/(.*)", "result": "root://old.example.org//$1"}],
        "local_stage_out": {"command": "stageout-xrdcp-fnal", "catalog": url, "phedex_node": "T3_US_Old"},
    }
    wmcore = read_as_wmcore(write_tree(site_files(site_with(tmp_path, block)), tmp_path / "tree"), monkeypatch)
    assert wmcore.old_pfn(wmcore.config.eventData["catalog"], LFN) == "root://old.example.org//mc/Run3/file.root"
    assert wmcore.config.localStageOutCommand() == "stageout-xrdcp-fnal"
    assert wmcore.config.localStageOutPNN() == "T3_US_Old"


def test_files_and_links_of_a_site_with_siblings(tmp_path: Path) -> None:
    block = {**SMALLEST, "subsite": "GPU"}
    site = site_with(tmp_path, block)
    assert site_files(site)["local"] == Link("T3_US_HPC/GPU")
    assert list(archive_files(site)) == [
        "SITECONF/T2_FI_HIP/storage.json",
        "SITECONF/T3_US_HPC/GPU/JobConfig/site-local-config.xml.head",
        "SITECONF/T3_US_HPC/GPU/JobConfig/site-local-config.xml.tail",
        "SITECONF/T3_US_HPC/PhEDEx/storage.xml",
        "SITECONF/T3_US_HPC/storage.json",
        "SITECONF/local",
    ]


def test_pieces_are_cut_where_found_proxies_are_asked_first(tmp_path: Path) -> None:
    site = site_with(tmp_path, {**SMALLEST, **FRONTIERS["own"]})
    start = "T3_US_HPC/JobConfig/site-local-config.xml"
    files = archive_files(site)
    head, tail = (files[f"{TOP}/{start}{end}"] for end in (".head", ".tail"))
    assert isinstance(head, bytes) and isinstance(tail, bytes)
    assert head + tail == site_files(site)[start]
    found = b'<proxy url="http://found.example.org:3128"/><backupproxy url="http://near.example.org:3128"/>'
    tree = write_tree({**site_files(site), start: head + found + tail}, tmp_path / "tree")
    view = read_as_cmssw(tree / "local")
    assert view.frontier_values("proxyurl")[:2] == ["http://found.example.org:3128", "http://squid.example.org:3128"]
    assert view.frontier_values("backupproxyurl") == ["http://near.example.org:3128"]


def test_rendering_is_the_same_every_time(tmp_path: Path) -> None:
    block = {**SMALLEST, **READS["own-and-sibling"][0]}
    shuffled = dict(reversed(list(block.items())))
    (tmp_path / "b").mkdir()
    assert archive_files(site_with(tmp_path, block)) == archive_files(site_with(tmp_path / "b", shuffled))


def test_site_without_block_has_no_files(tmp_path: Path) -> None:
    path = tmp_path / "test.yaml"
    path.write_text(
        "site: A\nsubmission: external\nentries: [{name: E}]\nruntime: {credentials: {}}\n", encoding="utf-8"
    )
    site = describe_site(path)
    assert archive_files(site) == {}
    with pytest.raises(SiteconfError, match=r"has no runtime\.siteconf"):
        site_files(site)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        (
            {"siblings": {"T2_FI_HIP": "/nowhere"}},
            "siblings.T2_FI_HIP",
            "/nowhere/storage.json: cannot be read: No such",
        ),
        (
            {"stage_out": [{**STAGE_OUT, "volume": "Gone"}]},
            "stage_out[0].volume",
            "the storage.json of T2_FI_HIP has no volume Gone; it has: CERN_IBEOS, HIP_dCache",
        ),
        (
            {"stage_out": [{**STAGE_OUT, "protocol": "SRMv2"}]},
            "stage_out[0].protocol",
            "the storage.json of T2_FI_HIP has no protocol SRMv2 for HIP_dCache; it has: WebDAV, XRootD",
        ),
        (
            {"data_access": [{"volume": "Own", "protocol": "XRootD"}]},
            "data_access[0].volume",
            "the storage.json of T3_US_HPC has no volume Own; it has: none",
        ),
        ({"storage": "/nowhere.json"}, "storage", "/nowhere.json: cannot be read"),
    ],
)
def test_what_is_not_there_is_a_problem_of_the_site_file(
    tmp_path: Path, change: dict[str, Any], field: str, message: str
) -> None:
    site = site_with(tmp_path, {**SMALLEST, **change})
    with pytest.raises(SiteconfFileError) as caught:
        archive_files(site)
    (problem,) = caught.value.problems
    assert (problem.file, problem.field) == (site.file, f"runtime.siteconf.{field}")
    assert problem.line > 1
    assert problem.message.startswith(message)


def test_broken_file_of_a_sibling_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "storage.json").write_text('[\n  {"site": "T2_FI_HIP",\n   "protocols": []}\n]', encoding="utf-8")
    site = site_with(tmp_path, {**SMALLEST, "siblings": {"T2_FI_HIP": str(tmp_path)}})
    with pytest.raises(SiteconfFileError, match=r"storage\.json:2: \[0\]\.volume: missing"):
        archive_files(site)


WORDS = st.text("ABCdef0123_-", min_size=1, max_size=8).filter(lambda word: word[0] not in "_-")
PATHS = st.text("abc/019._~", min_size=1, max_size=10)
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
PROXIES = st.lists(
    st.builds("http://{}.example.org:{}".format, st.text("abc", min_size=1, max_size=4), st.integers(1, 65535)),
    max_size=4,
)
PROTOCOLS = st.one_of(
    st.builds(lambda path: {"prefix": f"root://se.example.org/{path}"}, PATHS),
    st.builds(lambda path: {"rules": [{"lfn": "/+store/(.*)", "pfn": f"davs://{path}/$1"}]}, PATHS),
)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    """Any block that is right in itself, with volumes of its own."""
    volumes = draw(st.dictionaries(WORDS, st.dictionaries(WORDS, PROTOCOLS, min_size=1, max_size=3), max_size=3))
    refs = st.sampled_from(
        [
            {"site": "T2_FI_HIP", "volume": "HIP_dCache", "protocol": "XRootD"},
            {"site": "T1_IT_CNAF", "volume": "CNAF_GPFS", "protocol": "WebDAV"},
            *({"volume": volume, "protocol": name} for volume, ways in volumes.items() for name in ways),
        ]
    )
    methods = st.fixed_dictionaries({}, optional={"command": WORDS, "option": TEXTS})
    block: dict[str, Any] = {
        "site": draw(WORDS.filter(lambda word: word not in ("T2_FI_HIP", "T1_IT_CNAF"))),
        "stage_out": [{**draw(refs), **draw(methods)} for _ in range(draw(st.integers(1, 3)))],
        "frontier": {"proxies": draw(PROXIES) or ["http://s.example.org:1"], "backup_proxies": draw(PROXIES)},
    }
    if draw(st.booleans()):
        block["data_access"] = draw(st.lists(refs, min_size=1, max_size=4))
    if draw(st.booleans()):
        block["subsite"] = draw(WORDS)
    if volumes:
        block["storage"] = [
            {"volume": volume, "protocols": [{"protocol": name, **way} for name, way in ways.items()]}
            for volume, ways in volumes.items()
        ]
    block["siblings"] = used_siblings(block)
    return block


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(block=blocks())
def test_both_readers_agree_on_any_block(block: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        site = site_with(folder, block)
        wmcore, cmssw = both_views(write_tree(site_files(site), folder / "SITECONF"), patch)
        check_agreement(wmcore, cmssw, LFN)
        assert all(cmssw.pfns(LFN))
        named = [(way[0], way[1] or "") for way in wmcore.stage_outs(LFN)]
        assert named == [(ref.get("command", "gfal2"), ref.get("option", "")) for ref in block["stage_out"]]
        assert all(way[3] for way in wmcore.stage_outs(LFN))
        assert wmcore.config.frontierProxies == block["frontier"]["proxies"]
        assert cmssw.frontier_values("backupproxyurl") == block["frontier"]["backup_proxies"]
        assert cmssw.subsite == block.get("subsite", "")
