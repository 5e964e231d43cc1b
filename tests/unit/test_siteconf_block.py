# SPDX-License-Identifier: Apache-2.0
"""The SITECONF block of a site file: its defaults, and what is refused with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import SiteError
from glideinwms_bosco.site.siteconf_block import (
    DEFAULT_BACKUP_PROXIES,
    DEFAULT_FRONTIER_SERVERS,
    SiteconfBlock,
    StageOutRef,
    siteconf_of,
)
from tests.unit.siteconf_world import CNAF, HIP, SMALLEST, STAGE_OUT, problems_with, site_with

SQUID = {"proxies": [{"url": "http://squid.example.org:3128", "capacity": {"clients": 1000}}]}
ONLY_BACKUP = "only backup proxies are asked for conditions; they are shared by all sites"


def block_with(folder: Path, block: dict[str, Any]) -> SiteconfBlock:
    runtime = site_with(folder, block).runtime
    assert runtime is not None and runtime.siteconf is not None
    return runtime.siteconf


def errors_with(folder: Path, block: dict[str, Any], **runtime: Any) -> list[tuple[str, str]]:
    """Field below the block, message; each has a line of its own in the file."""
    problems = problems_with(folder, block, **runtime)
    assert all(problem.line > 1 and problem.hint for problem in problems)
    return [
        (problem.field.replace("runtime.siteconf.", ""), problem.message)
        for problem in problems
        if problem.severity == "error"
    ]


def warnings_with(folder: Path, block: dict[str, Any], **runtime: Any) -> list[tuple[str, str]]:
    problems = problems_with(folder, block, **runtime)
    assert [problem.severity for problem in problems] == ["warning"] * len(problems)
    return [(problem.field.replace("runtime.siteconf.", ""), problem.message) for problem in problems]


def test_defaults_of_a_block(tmp_path: Path) -> None:
    block = block_with(tmp_path, dict(SMALLEST))
    assert block.frontier is not None
    assert block.frontier.servers == block.frontier_servers() == DEFAULT_FRONTIER_SERVERS
    assert block.frontier.backup_proxies == DEFAULT_BACKUP_PROXIES
    assert (block.frontier.failover_to_server, block.frontier.proxies) == (False, ())
    assert (block.preset, block.prefer_local, block.tree, block.subsite) == ("remote-read", False, None, None)
    assert block.stage_out == (StageOutRef("HIP_dCache", "WebDAV", "T2_FI_HIP"),)


def test_block_with_a_proxy_of_the_site_has_no_finding(tmp_path: Path) -> None:
    assert problems_with(tmp_path, SMALLEST, web_proxies=SQUID) == ()


def test_only_backup_proxies_are_worth_a_warning(tmp_path: Path) -> None:
    assert warnings_with(tmp_path, dict(SMALLEST)) == [("frontier", ONLY_BACKUP)]


def test_direct_pilots_leave_payloads_a_way_to_their_conditions(tmp_path: Path) -> None:
    none = {**SMALLEST, "frontier": {"backup_proxies": []}}
    ((field, message),) = warnings_with(tmp_path, none, web_proxies={**SQUID, "direct": True})
    assert (field, message.split(":")[0]) == ("frontier", "payloads of a pilot that goes direct get no conditions")
    assert problems_with(tmp_path, none, web_proxies=SQUID) == ()
    allowed = {**SMALLEST, "frontier": {"backup_proxies": [], "failover_to_server": True}}
    assert problems_with(tmp_path, allowed, web_proxies={**SQUID, "direct": True}) == ()


def test_fixed_proxy_of_cvmfs_serves_no_conditions_and_the_hint_says_where_it_does(tmp_path: Path) -> None:
    cvmfs = {"repositories": ["cms.cern.ch"], "rungs": ["native"], "proxy": "http://squid.example.org:3128"}
    (problem,) = [found for found in problems_with(tmp_path, SMALLEST, cvmfs=cvmfs) if found.message == ONLY_BACKUP]
    assert "runtime.cvmfs.proxy under runtime.web_proxies" in problem.hint


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"stage_out": None}, "stage_out", "missing: payloads have nowhere to write"),
        ({"site": None}, "site", "missing: the SITECONF is of no CMS site"),
        ({"siblings": {}}, "stage_out[0].site", "T2_FI_HIP is not among the siblings"),
        (
            {"data_access": [{"site": "T1_US_FNAL", "volume": "American_Federation", "protocol": "XRootD"}]},
            "data_access[0].site",
            "T1_US_FNAL is not among the siblings",
        ),
        ({"site": "T2_FI_HIP"}, "siblings.T2_FI_HIP", "is the site itself"),
        ({"frontier": {}, "local_connect": {"prefix": "a"}}, "local_connect", "CMSSW refuses it together"),
        ({"frontier": {"backup_proxies": []}}, "frontier", "there is no proxy to ask"),
        (
            {"phedex_catalog": [{"protocol": "a", "match": "b", "result": "c"}]},
            "phedex_catalog",
            "event_data does not say which of its protocols",
        ),
        ({"tree": "/srv/siteconf", "siblings": None}, "stage_out", "has no effect with tree"),
    ],
)
def test_fields_that_work_against_each_other_are_refused(
    tmp_path: Path, change: dict[str, Any], field: str, message: str
) -> None:
    block = {name: value for name, value in {**SMALLEST, **change}.items() if value is not None}
    (found,) = errors_with(tmp_path, block)
    assert found[0] == field
    assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"siblings": {**HIP, **CNAF}}, "siblings.T1_IT_CNAF"),
        ({"frontier": {"proxies": ["http://squid.example.org:3128"]}}, "frontier.proxies"),
    ],
)
def test_what_has_no_use_is_reported(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    assert [found[0] for found in warnings_with(tmp_path, {**SMALLEST, **change}, web_proxies=SQUID)] == [field]


@pytest.mark.parametrize(
    "frontier",
    [{"failover_to_server": True}, {"proxy_configs": ["http://grid-wpad/wpad.dat"]}],
)
def test_other_ways_to_conditions_need_no_proxy_of_the_site(tmp_path: Path, frontier: dict[str, Any]) -> None:
    assert problems_with(tmp_path, {**SMALLEST, "frontier": {"backup_proxies": [], **frontier}}) == ()


def test_tree_stands_alone(tmp_path: Path) -> None:
    block = {"site": "T3_US_HPC", "subsite": "GPU", "tree": "/srv/siteconf", "prefer_local": True}
    assert problems_with(tmp_path, block) == ()
    assert block_with(tmp_path, block).frontier_servers() == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "local"),
        ("site", "../T1"),
        ("site", "T3.x"),
        ("subsite", "JobConfig"),
        ("subsite", ".."),
        ("subsite", "a/b"),
        ("preset", "local-read"),
        ("stage_out", []),
        ("stage_out", [{**STAGE_OUT, "command": "rm -rf"}]),
        ("stage_out", [{**STAGE_OUT, "option": "a\nb"}]),
        ("siblings", {"../x": "/srv/x"}),
        ("siblings", {"T1": "relative"}),
        ("siblings", {"T1": "/srv/../etc"}),
        ("tree", "siteconf"),
        ("frontier", {"servers": ["http://frontier.example.org:8000"]}),
        ("frontier", {"servers": ["http://frontier.example.org:8000/a)(proxyurl=x"]}),
        ("frontier", {"proxies": ["http://squid.example.org:3128/"]}),
        ("frontier", {"proxies": ["http://squid.example.org:3128)"]}),
        ("frontier", {"load_balance": "all"}),
        ("frontier", {"prefer_ip_family": 5}),
        ("event_data", ["/cvmfs/storage.xml"]),
        ("storage", [{"volume": "A"}]),
        ("source_config", {"cache_min_free": "10 GB"}),
        ("typo", 1),
    ],
)
def test_values_no_reader_could_use_are_refused(tmp_path: Path, field: str, value: Any) -> None:
    problems = problems_with(tmp_path, {**SMALLEST, field: value})
    assert [problem.severity for problem in problems] == ["error"]
    assert problems[0].field.startswith(f"runtime.siteconf.{field}")


@pytest.mark.parametrize("name", ["local", "..", "a/b", ""])
def test_constructor_refuses_names_that_are_no_folders(name: str) -> None:
    for block in ({"site": name}, {"subsite": f"{name}/"}, {"siblings": {name: "/srv"}}):
        with pytest.raises(SiteError):
            siteconf_of(block)
