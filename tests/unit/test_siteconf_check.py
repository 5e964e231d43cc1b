# SPDX-License-Identifier: Apache-2.0
"""Each code of `siteconf check` is found in a tree that has one thing wrong, and nothing is found in one that has not.

One thing is changed in a good tree; exactly that one finding is expected, at its line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from glideinwms_bosco.siteconf.check import check_folder, check_tree
from glideinwms_bosco.siteconf.codes import READERS, RULES, SEVERITIES, SOURCES, Finding, codes_page
from glideinwms_bosco.siteconf.from_tree import MAX_REFERENCES, read_tree
from tests.unit.siteconf_tree import CATALOG, CONFIG, SIBLING, STORAGE, siteconf_path, write_siteconf
from tests.unit.siteconf_world import REAL

CHECKOUT = Path(__file__).parents[2]

FRONTIER_START, FRONTIER_END = "<frontier-connect>", "</frontier-connect>"
PROXIES = """        <proxy url="http://squid.example.org:3128"/>
        <backupproxy url="http://backup.example.org:3128"/>
"""
SERVER = '        <server url="http://frontier.example.org:8000/FrontierInt"/>\n'
METHOD = '<method volume="Disk" protocol="WebDAV"/>'
OWN = '<catalog volume="Disk" protocol="XRootD"/>'
FED = '<catalog site="T1_XX_Fed" volume="Federation" protocol="XRootD"/>'
DATA_ACCESS = f"      {OWN}\n      {FED}\n"
PREFIX = '"prefix": "root://se.example.org/"'
PNFS_RULE = '{"lfn": "/+(.*)", "pfn": "/pnfs/example.org/$1"}'
PNFS = '"rules": [{"lfn": "/+(.*)", "pfn": "/pnfs/example.org/$1"}]'
CHAIN = '"chain": "pnfs"'
XROOTD_RULE = 'protocol="xrootd" path-match="/+store/(.*)"'


def pnfs(lfn: str, pfn: str = "/pnfs/example.org/$1") -> tuple[str, str, str]:
    """The rule of protocol pnfs with another expression or result."""
    return STORAGE, PNFS_RULE, f'{{"lfn": "{lfn}", "pfn": "{pfn}"}}'


# number, line, file, what is replaced, by what
CASES: tuple[tuple[int, int, str, str, str], ...] = (
    (1, 31, CONFIG, "</site>", ""),
    (1, 3, SIBLING, '"protocols": [', '"protocols": [,'),
    (1, 5, CATALOG, "</storage-mapping>", "</storage>"),
    (1, 1, CATALOG, "<storage-mapping>", '<!DOCTYPE a [<!ENTITY b "c">]><storage-mapping>'),
    (5, 31, CONFIG, "</site-local-config>", '<site name="T2_XX_Other"/></site-local-config>'),
    (6, 2, CONFIG, '<site name="T2_XX_Test">', '<site name="">'),
    (9, 3, CONFIG, "    <event-data>", "<subsite/><event-data>"),
    (10, 18, CONFIG, f"{FRONTIER_START}\n", "<!--"),
    (11, 25, CONFIG, FRONTIER_END, f'{FRONTIER_END}<local-connect><connectString prefix="a"/></local-connect>'),
    (
        *(12, 2, CONFIG),
        '<catalog url="trivialcatalog_file:/cvmfs/cms.cern.ch/SITECONF/local/PhEDEx/storage.xml?protocol=xrootd"/>',
        "",
    ),
    (13, 4, CONFIG, "trivialcatalog_file:/cvmfs/cms.cern.ch/SITECONF/local", "file:/cvmfs/SITECONF/local"),
    (13, 4, CONFIG, "?protocol=xrootd", ""),
    (13, 10, CONFIG, "?protocol=davs", "?protocol="),
    (15, 10, CONFIG, '      <phedex-node value="T2_XX_Test"/>\n', ""),
    (15, 10, CONFIG, '<command value="gfal2"/>', ""),
    (16, 15, CONFIG, METHOD, ""),
    (17, 7, CONFIG, OWN, '<catalog volume="Disk"/>'),
    (17, 16, CONFIG, METHOD, '<method protocol="WebDAV"/>'),
    (18, 16, CONFIG, METHOD, f'{METHOD}<fallback volume="Disk" protocol="WebDAV" command="cp"/>'),
    (19, 16, CONFIG, METHOD, '<method volume="Disk" protocol="WebDAV" command="srmcp"/>'),
    (19, 16, CONFIG, METHOD, '<method volume="Disk" protocol="WebDAV" command=""/>'),
    (19, 10, CONFIG, '<command value="gfal2"/>', '<command value="rfcp"/>'),
    (20, 8, CONFIG, 'site="T1_XX_Fed"', 'site="T1_XX_Gone"'),
    (22, 7, CONFIG, OWN, '<catalog volume="Disc" protocol="XRootD"/>'),
    (22, 8, CONFIG, 'volume="Federation"', 'volume="Federations"'),
    (23, 7, CONFIG, OWN, '<catalog volume="Disk" protocol="xrootd"/>'),
    (23, 16, CONFIG, METHOD, '<method volume="Disk" protocol="SRMv2"/>'),
    (24, 6, CONFIG, DATA_ACCESS, ""),
    (25, 8, CONFIG, FED, OWN),
    (25, 16, CONFIG, METHOD, f'{METHOD}<method site="T2_XX_Test" volume="Disk" protocol="WebDAV"/>'),
    (27, 16, STORAGE, '"rse": "T2_XX_Test"', '"rse": null'),
    (28, 8, CONFIG, 'site="T1_XX_Fed"', 'site="../T1_XX_Fed"'),
    (28, 16, CONFIG, METHOD, '<method site="" volume="Disk" protocol="WebDAV"/>'),
    (30, 16, STORAGE, '"rse": "T2_XX_Test",', ""),
    (31, 7, SIBLING, "]}\n]", ']},\n\n{"site": "T1_XX_Fed", "volume": "Federation", "type": "DISK", "protocols": []}]'),
    (
        *(32, 4, SIBLING),
        '"protocols": [\n',
        '"protocols": [{"protocol": "XRootD", "access": "global-ro", "prefix": "root://other.example.org/"},\n',
    ),
    (33, 5, STORAGE, PNFS, '"rules": []'),
    (34, 4, STORAGE, PREFIX, f"{PREFIX}, {PNFS}"),
    (35, 4, STORAGE, PREFIX, f'"prefix": "", {PNFS}'),
    (36, 6, *pnfs("/(?P<rest>.*)")),
    (36, 6, *pnfs("(?i)/(.*)")),
    (36, 6, *pnfs("/(.*){")),
    (37, 6, *pnfs(r"/(.*)\\z")),
    (38, 6, *pnfs(r"/(.*)\\Z")),
    (38, 6, *pnfs("/([[:alnum:]/]*)")),
    (38, 6, *pnfs("/(\u00e9.*)")),
    (39, 6, *pnfs("/([a-z]+)+$")),
    (39, 6, *pnfs("/((?:a|aa)*)b")),
    (39, 6, *pnfs("/(.*)" + "(.*)" * 6)),
    (39, 6, *pnfs("/(" + "a" * 500 + ")")),
    (40, 8, STORAGE, CHAIN, '"chain": "nfs"'),
    (40, 8, STORAGE, CHAIN, '"chain": ""'),
    (41, 6, STORAGE, PNFS_RULE, '{"lfn": "/+(.*)", "pfn": "/pnfs/$1", "chain": "WebDAV"}'),
    (41, 6, STORAGE, PNFS_RULE, '{"lfn": "/+(.*)", "pfn": "/pnfs/$1", "chain": "pnfs"}'),
    (43, 6, *pnfs("/+(.*)", "/pnfs/$1/$2")),
    (44, 4, STORAGE, '"global-ro"', '"global"'),
    (44, 4, SIBLING, '"access": "global-ro", ', ""),
    (45, 16, STORAGE, '"global-rw"', '"site-ro"'),
    (46, 2, STORAGE, '"DISK"', '"disk"'),
    (47, 6, *pnfs("/(store/)?(.*)", "/pnfs/$2")),
    (48, 7, CONFIG, OWN, '<catalog volume="Disk" protocol="pnfs"/>'),
    (50, 19, CONFIG, SERVER, ""),
    (51, 19, CONFIG, '<failover toserver="no"/>', ""),
    (51, 19, CONFIG, '<failover toserver="no"/>', '<failover toserver="yes"/>'),
    (52, 19, CONFIG, PROXIES, ""),
    (53, 19, CONFIG, SERVER, SERVER * 2),
    (54, 19, CONFIG, "http://squid.example.org:3128", "squid.example.org:3128"),
    (54, 19, CONFIG, "http://squid.example.org:3128", "http://squid.example.org:3128)(proxyurl=x"),
    (54, 19, CONFIG, "http://frontier.example.org:8000/FrontierInt", "http://frontier.example.org:8000"),
    (55, 19, CONFIG, '<load balance="proxies"/>', '<load balance="proxy"/>'),
    (57, 19, CONFIG, f"{FRONTIER_START}\n", "<local-connect/><!--"),
    (58, 27, CONFIG, 'value="10"', 'value="10 GB"'),
    (58, 27, CONFIG, "<source-config>", '<source-config><prefetching value="yes"/>'),
    (60, 4, CONFIG, "?protocol=xrootd", "?protocol=root"),
    (60, 10, CONFIG, "?protocol=davs", "?protocol=dav"),
    # The rules of PhEDEx/storage.xml are rules too.
    (36, 2, CATALOG, XROOTD_RULE, 'protocol="xrootd" path-match="/+store/(?P&lt;a>.*)"'),
    (39, 2, CATALOG, XROOTD_RULE, 'protocol="xrootd" path-match="(/+)+store/(.*)"'),
    (39, 2, CATALOG, XROOTD_RULE, f'{XROOTD_RULE} destination-match="(a*)*"'),
    (40, 4, CATALOG, 'chain="direct"', 'chain="dcap"'),
    (41, 4, CATALOG, 'chain="direct"', 'chain="davs"'),
)
# What needs more than one change, or another tree: below, and in test_siteconf_check_links.py.
ALONE_ELSEWHERE = {2, 3, 4, 7, 8, 14, 21, 26, 49, 70, 71}


def found(findings: tuple[Finding, ...]) -> list[tuple[int, int]]:
    return [(finding.number, finding.line) for finding in findings]


def test_good_tree_has_no_findings(tmp_path: Path) -> None:
    assert check_folder(write_siteconf(tmp_path)) == ()


@pytest.mark.parametrize(
    ("number", "line", "which", "old", "new"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)]
)
def test_one_change_gives_exactly_one_finding(
    tmp_path: Path, number: int, line: int, which: str, old: str, new: str
) -> None:
    # A comment that was opened instead of an element ends where the element ended.
    if new.endswith("<!--"):
        local = write_siteconf(tmp_path, which, old, new)
        path = siteconf_path(tmp_path, which)
        path.write_text(path.read_text().replace(FRONTIER_END, "-->"))
    else:
        local = write_siteconf(tmp_path, which, old, new)
    findings = check_folder(local)
    assert found(findings) == [(number, line)], [str(finding) for finding in findings]
    assert "\n" not in str(findings[0])


def test_every_code_is_tried() -> None:
    assert set(RULES) == {case[0] for case in CASES} | ALONE_ELSEWHERE


def test_local_stage_out_is_missing(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    path = siteconf_path(tmp_path, CONFIG)
    text = path.read_text()
    start, end = text.index("<local-stage-out>"), text.index("</local-stage-out>") + len("</local-stage-out>")
    path.write_text(text[:start] + text[end:])
    assert found(check_folder(local)) == [(14, 2)]


def test_stage_out_without_rse_beside_one_with(tmp_path: Path) -> None:
    method = f'{METHOD}<method site="T1_XX_Fed" volume="Federation" protocol="XRootD"/>'
    local = write_siteconf(tmp_path, CONFIG, METHOD, method)
    path = siteconf_path(tmp_path, SIBLING)
    path.write_text(path.read_text().replace("global-ro", "global-rw"))
    assert found(check_folder(local)) == [(26, 16)]


def test_name_that_is_none_of_a_cms_site(tmp_path: Path) -> None:
    write_siteconf(tmp_path)
    (tmp_path / "local").unlink()
    folder = (tmp_path / "T2_XX_Test").rename(tmp_path / "Test")
    for name in ("JobConfig/site-local-config.xml", "storage.json"):
        path = folder / name
        path.write_text(path.read_text().replace("T2_XX_Test", "Test"))
    assert found(check_folder(folder)) == [(70, 2)]


def test_folder_that_is_named_otherwise(tmp_path: Path) -> None:
    write_siteconf(tmp_path)
    (tmp_path / "local").unlink()
    assert found(check_folder((tmp_path / "T2_XX_Test").rename(tmp_path / "T2_XX_Tset"))) == [(71, 2)]


def test_pilots_that_find_proxies_need_none_in_the_file(tmp_path: Path) -> None:
    tree = read_tree(write_siteconf(tmp_path, CONFIG, PROXIES, ""))
    assert check_tree(tree, pilot_proxies=True) == ()


def test_more_references_than_are_looked_up(tmp_path: Path) -> None:
    others = "".join(f'<catalog site="T2_XX_N{i}" volume="V" protocol="P"/>\n' for i in range(MAX_REFERENCES))
    findings = check_folder(write_siteconf(tmp_path, CONFIG, OWN, f"{OWN}\n{others}"))
    assert [finding.number for finding in findings].count(49) == 1


def test_more_expressions_than_are_judged(tmp_path: Path) -> None:
    rule = '{"lfn": "/' + "a" * 480 + '(.*)", "pfn": "/$1"}'
    local = write_siteconf(tmp_path, STORAGE, PNFS_RULE, ",\n".join([rule] * 80))
    assert [finding.number for finding in check_folder(local)] == [49]


def test_a_site_is_reported_once_however_often_it_is_named(tmp_path: Path) -> None:
    gone = '<catalog site="T1_XX_Gone" volume="A" protocol="P"/>'
    local = write_siteconf(tmp_path, CONFIG, FED, f"{gone}{gone.replace('A', 'B')}")
    assert found(check_folder(local)) == [(20, 8)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("local", [(51, 26)]), ("T2_FI_HIP", [(51, 29)]), ("T1_IT_CNAF", [(2, 0)])],
)
def test_real_ones_have_true_findings_only(name: str, expected: list[tuple[int, int]]) -> None:
    """CERN's and HIP's let jobs fall back on the servers; CNAF's copy has no configuration, only volumes."""
    assert found(check_folder(REAL / name)) == expected


def test_rows_are_in_order_and_of_known_words() -> None:
    assert list(RULES) == sorted(RULES)
    assert {rule.severity for rule in RULES.values()} <= set(SEVERITIES)
    assert {reader for rule in RULES.values() for reader in rule.readers} <= set(READERS)
    assert {rule.source for rule in RULES.values()} == set(SOURCES)


def test_page_of_codes_is_current() -> None:
    assert (CHECKOUT / "docs" / "siteconf-codes.md").read_text(encoding="utf-8") == codes_page()
