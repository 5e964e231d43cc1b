# SPDX-License-Identifier: Apache-2.0
"""What `siteconf explain` says is what the real WMCore does, and what CMSSW's rules say that are written apart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from WMCore.Storage.RucioFileCatalog import readRFC
from WMCore.Storage.TrivialFileCatalog import readTFC, tfcProtocol

from glideinwms_bosco.errors import SiteconfError, UsageError
from glideinwms_bosco.siteconf.bounded import within_deadline
from glideinwms_bosco.siteconf.codes import CMSSW, WMCORE
from glideinwms_bosco.siteconf.explain import MAX_LFN_CHARS, OLD_CMSSW, OLD_WMCORE, Attempt, explain
from glideinwms_bosco.siteconf.from_tree import read_tree
from tests.unit.cmssw_rules import read_as_cmssw
from tests.unit.siteconf_tree import CATALOG, CONFIG, SIBLING, SITE, STORAGE, siteconf_path, write_siteconf
from tests.unit.siteconf_world import REAL
from tests.unit.wmcore_reader import read_as_wmcore

LFNS = ("/store/data/Run3/a.root", "/other/file.root", "/store/data//c.root")


def explained(folder: Path, lfn: str, reader: str) -> list[Attempt]:
    attempts = [attempt for attempt in explain(read_tree(folder), lfn) if attempt.reader == reader]
    assert [attempt.order for attempt in attempts] == list(range(1, len(attempts) + 1))
    return attempts


@pytest.mark.parametrize("lfn", LFNS)
@pytest.mark.parametrize("name", ["local", "T2_FI_HIP"])
def test_real_ones_as_the_real_wmcore_reads_them(name: str, lfn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wmcore = read_as_wmcore(REAL, monkeypatch, name)
    told = [(attempt.command, attempt.pfn or None) for attempt in explained(REAL / name, lfn, WMCORE)]
    assert told == [(command, pfn) for command, _option, _rse, pfn in wmcore.stage_outs(lfn)]
    assert told


@pytest.mark.parametrize("lfn", LFNS)
@pytest.mark.parametrize("name", ["local", "T2_FI_HIP"])
def test_real_ones_as_cmssw_reads_them(name: str, lfn: str) -> None:
    told = [attempt.pfn for attempt in explained(REAL / name, lfn, CMSSW)]
    assert told == read_as_cmssw(REAL / name).pfns(lfn)
    assert len(told) == 3


def test_good_tree_in_full(tmp_path: Path) -> None:
    attempts = explain(read_tree(write_siteconf(tmp_path)), "/store/a")
    assert [(attempt.reader, attempt.purpose, attempt.order, attempt.pfn) for attempt in attempts] == [
        (CMSSW, "read", 1, "root://se.example.org//store/a"),
        (CMSSW, "read", 2, "root://fed.example.org//store/a"),
        (OLD_CMSSW, "read", 1, "root://fed.example.org//store/a"),
        (WMCORE, "write", 1, "davs://se.example.org:2880/pnfs/example.org/store/a"),
        (OLD_WMCORE, "write", 1, "davs://se.example.org:2880/pnfs/store/a"),
    ]
    assert attempts[3].steps == (
        "pnfs (rule on line 6): /store/a -> /pnfs/example.org/store/a",
        "WebDAV (rule on line 8): /pnfs/example.org/store/a -> davs://se.example.org:2880/pnfs/example.org/store/a",
    )
    assert [attempt.line for attempt in attempts[3:]] == [16, 10]
    assert attempts[4].steps == (
        "direct (rule on line 3): /store/a -> /pnfs/store/a",
        "davs (rule on line 4): /pnfs/store/a -> davs://se.example.org:2880/pnfs/store/a",
    )


@pytest.mark.parametrize("lfn", LFNS)
@pytest.mark.parametrize("name", ["local", "T2_FI_HIP"])
def test_old_stage_out_of_real_ones_as_the_real_wmcore_resolves_it(
    name: str, lfn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = read_as_wmcore(REAL, monkeypatch, name).config.localStageOut["catalog"]
    file = (REAL / name).resolve() / "PhEDEx" / "storage.xml"
    (attempt,) = explained(REAL / name, lfn, OLD_WMCORE)
    assert attempt.pfn == (readTFC(str(file)).matchLFN(tfcProtocol(url), lfn) or "")
    assert bool(attempt.pfn) == lfn.startswith("/store/")


FALLBACK = """\
    </local-stage-out>
    <fallback-stage-out>
      <command value="xrdcp"/><lfn-prefix value="root://lost.example.org/"/><phedex-node value="T2_XX_Lost"/>
    </fallback-stage-out>
    <fallback-stage-out>
      <command value="cp"/><lfn-prefix value="/mnt/near"/><phedex-node value="T2_XX_Near"/>
    </fallback-stage-out>
"""


def test_old_fallback_is_the_last_one_with_its_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = write_siteconf(tmp_path, CONFIG, "    </local-stage-out>\n", FALLBACK)
    first, second = explained(local, "/store/a", OLD_WMCORE)
    (real,) = read_as_wmcore(tmp_path, monkeypatch).config.fallbackStageOut
    assert (second.command, second.site) == (real["command"], real["phedex-node"]) == ("cp", "T2_XX_Near")
    assert second.pfn == real["lfn-prefix"] + "/store/a" == "/mnt/near/store/a"
    assert (first.pfn[:7], second.line) == ("davs://", 18)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<command value="cp"/>', "", "WMCore stops: <fallback-stage-out> has no command"),
        ('<phedex-node value="T2_XX_Near"/>', "", "WMCore stops: <fallback-stage-out> has no phedex-node"),
        ('<phedex-node value="T2_XX_Test"/>', "", "WMCore stops: <local-stage-out> has no phedex-node"),
        ("storage.xml?protocol=davs", "storage.xml", "not known: the catalog"),
    ],
)
def test_old_wmcore_stops_where_an_old_element_lacks_something(tmp_path: Path, old: str, new: str, words: str) -> None:
    local = write_siteconf(tmp_path, CONFIG, "    </local-stage-out>\n", FALLBACK)
    config = siteconf_path(tmp_path, CONFIG)
    config.write_text(config.read_text().replace(old, new))
    attempts = explained(local, "/store/a", OLD_WMCORE)
    assert [attempt.pfn for attempt in attempts] == ["", ""]
    assert all(attempt.why.startswith(words) for attempt in attempts)


def test_old_fallback_without_a_prefix_has_no_pfn(tmp_path: Path) -> None:
    local = write_siteconf(
        *(tmp_path, CONFIG, "    </local-stage-out>\n"), FALLBACK.replace('<lfn-prefix value="/mnt/near"/>', "")
    )
    assert explained(local, "/store/a", OLD_WMCORE)[1].why == "there is no lfn-prefix"


def test_old_stage_out_needs_the_own_catalog(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, CATALOG).unlink()
    assert explained(local, "/store/a", OLD_WMCORE) == []
    config = siteconf_path(tmp_path, CONFIG)
    config.write_text(config.read_text().replace("    </local-stage-out>\n", FALLBACK))
    assert all("is not there" in attempt.why for attempt in explained(local, "/store/a", OLD_WMCORE))


def test_catalog_outside_the_tree_is_not_guessed(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path, CONFIG, "SITECONF/T2_XX_Test/PhEDEx", "SITECONF/T2_XX_Other/PhEDEx")
    assert explained(local, "/store/a", OLD_WMCORE) == []


def rule(lfn: str, pfn: str, chain: Any = None) -> dict[str, Any]:
    return {"lfn": lfn, "pfn": pfn, **({} if chain is None else {"chain": chain})}


# Rules of protocol A, of protocol B: what readers make of them is compared, whatever it is.
RULES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "first-that-matches": ([rule("/store/user/(.*)", "u/$1"), rule("/(.*)", "all/$1")], []),
    "end-is-open": ([rule("/store/(data|user)", "x/$1/$2")], []),
    "anchors": ([rule("^/+store/(.*)$", "x/$1")], []),
    "two-groups": ([rule("/store/([^/]+)/(.*)", "$2@$1")], []),
    "empty-group": ([rule("/store/(data/)?(.*)", "x/$1/$2")], []),
    "group-in-group": ([rule("/store/((data|user)/.*)", "x/$1/$2")], []),
    "no-group": ([rule("/store/.*", "x")], []),
    "ten-groups": ([rule("/(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.*)", "$11-$10-$1")], []),
    "too-high-number": ([rule("/(.*)", "$1/$2")], []),
    "chain": ([rule("/+pnfs/(.*)", "a/$1", "B")], [rule("/+store/(.*)", "/pnfs/$1")]),
    "chain-when-both-match": ([rule("/+(.*)", "a/$1", "B")], [rule("/+store/(.*)", "/pnfs/$1")]),
    "chain-changes-all": ([rule("(/store.*)", "a/$1", "B")], [rule("/+store/(.*)", "pnfs/$1")]),
    "chain-in-the-middle": ([rule("data", "a/$1/$2", "B")], [rule("/+store/(.*)", "/pnfs/$1")]),
    "chain-of-nothing": ([rule("/(.*)", "a/$1", "B")], [rule("/nothing/(.*)", "x/$1")]),
    "chain-to-nowhere": ([rule("/(.*)", "a/$1", "C")], []),
    "chain-lost-then-rule": ([rule("/pnfs/(.*)", "a/$1", "B"), rule("/(.*)", "b/$1")], [rule("/(.*)", "/x/$1")]),
    "search-in-chain": ([rule("data/(.*)", "a/$1/$2", "B")], [rule("/(.*)", "/x/$1")]),
    "empty-match": ([rule("x*", "a/$1/$2")], []),
}


def _tree(folder: Path, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> Path:
    local = write_siteconf(folder, CONFIG, 'volume="Disk" protocol="XRootD"', 'volume="Disk" protocol="A"')
    config = siteconf_path(folder, CONFIG)
    config.write_text(config.read_text().replace('protocol="WebDAV"', 'protocol="A"'))
    protocols = [{"protocol": "A", "access": "global-rw", "rules": first}]
    protocols += [{"protocol": "B", "access": "virtual", "rules": second}] if second else []
    item = {"site": SITE, "volume": "Disk", "type": "DISK", "rse": SITE, "protocols": protocols}
    siteconf_path(folder, STORAGE).write_text(json.dumps([item], indent=1))
    return local


@pytest.mark.parametrize("lfn", LFNS)
@pytest.mark.parametrize("name", RULES)
def test_rules_as_the_real_wmcore_applies_them(tmp_path: Path, name: str, lfn: str) -> None:
    local = _tree(tmp_path, *RULES[name])
    real = readRFC(str(local / "storage.json"), SITE, "Disk", "A").matchLFN("A", lfn)
    (attempt,) = explained(local, lfn, WMCORE)
    assert attempt.pfn == (real or "")
    assert bool(attempt.why) == (not real)


@pytest.mark.parametrize("lfn", LFNS)
@pytest.mark.parametrize("name", [name for name in RULES if name != "chain-to-nowhere"])
def test_rules_as_cmssw_applies_them(tmp_path: Path, name: str, lfn: str) -> None:
    local = _tree(tmp_path, *RULES[name])
    attempt = explained(local, lfn, CMSSW)[0]
    assert attempt.pfn == read_as_cmssw(local).pfns(lfn)[0]
    assert bool(attempt.why) == (not attempt.pfn)


def test_where_wmcore_crashes_it_is_said(tmp_path: Path) -> None:
    """WMCore goes on to the next rule without a name."""
    chained = [rule("/(.*)", "a/$1", "B"), rule("/(.*)", "b/$1")]
    local = _tree(tmp_path, chained, [rule("/nothing/(.*)", "x/$1")])
    with pytest.raises(TypeError):
        readRFC(str(local / "storage.json"), SITE, "Disk", "A").matchLFN("A", "/store/a")
    (attempt,) = explained(local, "/store/a", WMCORE)
    assert attempt.pfn == ""
    assert "crashes" in attempt.why


def test_circle_of_chains_is_said(tmp_path: Path) -> None:
    local = _tree(tmp_path, [rule("/(.*)", "/$1", "B")], [rule("/(.*)", "/$1", "A")])
    for reader in (CMSSW, WMCORE):
        assert "circle" in explained(local, "/store/a", reader)[0].why


@pytest.mark.parametrize(
    ("which", "old", "new", "reader", "words"),
    [
        (CONFIG, '<method volume="Disk"', '<method volume="Disc"', WMCORE, "is not in"),
        (CONFIG, '<method volume="Disk" protocol="WebDAV"', '<method volume="Disk" protocol="X"', WMCORE, "is not in"),
        (CONFIG, '<catalog volume="Disk"', '<catalog site="T1_XX_Gone" volume="Disk"', CMSSW, "T1_XX_Gone"),
        (STORAGE, '"rse": "T2_XX_Test"', '"rse": null', WMCORE, "no rse"),
        (STORAGE, '"protocols": [', '"protocols": [,', CMSSW, "JSON"),
        (STORAGE, '"lfn": "/+(.*)", "pfn": "/pnfs', '"lfn": "(a+)+", "pfn": "/pnfs', WMCORE, "never finish"),
        (STORAGE, '"lfn": "/+(.*)", "pfn": "/pnfs', '"lfn": "(?i)a", "pfn": "/pnfs', CMSSW, "cannot compile"),
        (STORAGE, '"lfn": "/+(.*)", "pfn": "/pnfs', r'"lfn": "\\z", "pfn": "/pnfs', WMCORE, "cannot compile"),
        (CATALOG, 'path-match="/+store/(.*)"', 'path-match="/nothing"', OLD_CMSSW, "no rule matches"),
    ],
)
def test_says_why_there_is_no_pfn(tmp_path: Path, which: str, old: str, new: str, reader: str, words: str) -> None:
    attempt = explained(write_siteconf(tmp_path, which, old, new), "/store/a", reader)[0]
    assert attempt.pfn == ""
    assert words in attempt.why


def test_broken_sibling_does_not_hide_the_rest(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path, SIBLING, '"protocols": [', '"protocols": [,')
    assert [bool(attempt.pfn) for attempt in explained(local, "/store/a", CMSSW)] == [True, False]


@pytest.mark.parametrize("lfn", ["store/a", "", "/store/a b", "/store/\n", "/store/\x1b", "/" + "a" * MAX_LFN_CHARS])
def test_what_is_no_lfn_is_a_wrong_call(tmp_path: Path, lfn: str) -> None:
    with pytest.raises(UsageError, match="is no LFN"):
        explain(read_tree(write_siteconf(tmp_path)), lfn)


def test_longest_lfn_is_taken(tmp_path: Path) -> None:
    attempts = explain(read_tree(write_siteconf(tmp_path)), "/store/" + "a" * (MAX_LFN_CHARS - 7))
    assert all(attempt.pfn for attempt in attempts)


def test_work_that_takes_too_long_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(SiteconfError, match="takes longer"):
        within_deadline(lambda: time.sleep(30), "sleeping", 0.2)
    assert time.monotonic() - began < 5


def test_work_that_dies_is_told() -> None:
    def die() -> None:
        raise SystemExit(3)

    with pytest.raises(SiteconfError, match="cannot be done"):
        within_deadline(die, "dying", 5)
