# SPDX-License-Identifier: Apache-2.0
"""The SITECONF of a site file is checked before it is shipped, and no message comes twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.siteconf.of_site import MAX_SHOWN, siteconf_problems
from tests.unit.pilot_world import make_scripts
from tests.unit.site_text import changed_site, use_host_folders
from tests.unit.siteconf_tree import CONFIG, SITE, STORAGE, siteconf_path, write_siteconf
from tests.unit.siteconf_world import SMALLEST, site_file, site_with

OK, REFUSED = 0, 1
WORST_RULE = {"lfn": "(([a-z]+)+)$", "pfn": "/$1", "chain": "WebDAV"}
OWN_USE = {"volume": "Disk", "protocol": "WebDAV", "command": "nonesuch"}
OWN_STORAGE = {
    "volume": "Disk",
    "rse": "T3_US_HPC",
    "protocols": [{"protocol": "WebDAV", "access": "global-rw", "rules": [WORST_RULE]}],
}
BAD_STORAGE: dict[str, Any] = {"site": "T3_US_HPC", "stage_out": [OWN_USE], "storage": [OWN_STORAGE]}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A factory with an entry that a site file of `siteconf_world` adds to."""
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    folder = use_host_folders(tmp_path, monkeypatch)
    entry = '<glidein><entries><entry name="CE_Entry"><config/></entry></entries></glidein>'
    (folder / "config.d" / "10-ce.xml").write_text(entry, encoding="utf-8")
    return folder


def bad_tree(folder: Path) -> dict[str, Any]:
    """A tree that hardly any reader takes: two connects, another site's name, no stage-out, a broken storage.json."""
    write_siteconf(folder)
    config = siteconf_path(folder, CONFIG)
    text = config.read_text(encoding="utf-8").replace(f'name="{SITE}"', 'name="wrong name"')
    text = text.replace("<calib-data>", "<calib-data><local-connect/>").replace("stage-out>", "nothing>")
    config.write_text(text, encoding="utf-8")
    siteconf_path(folder, STORAGE).write_text("[ nonsense", encoding="utf-8")
    return {"site": SITE, "tree": str(folder)}


def codes_of(problems: list[dict[str, Any]], severity: str = "error") -> set[str]:
    found = [problem for problem in problems if problem["severity"] == severity]
    return {problem["message"].partition("BOSCO-SITECONF-")[2][:2] for problem in found}


@pytest.mark.parametrize(
    ("make", "codes"), [(bad_tree, {"01", "11", "14", "16", "70"}), (lambda _: BAD_STORAGE, {"19", "39", "41"})]
)
def test_broken_siteconf_is_refused_and_nothing_is_written(
    host: Path, tmp_path: Path, make: Any, codes: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = site_file(host / "sites.d", make(tmp_path / "tree"), web_proxies={"discover": ["wpad"], "max_jobs": 10_000})
    before = sorted((host / "config.d").iterdir())
    assert main(["site", "check", "test", "--json"]) == REFUSED
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert codes <= codes_of(problems)
    line = path.read_text(encoding="utf-8").splitlines().index('  "siteconf": {') + 1
    assert {(problem["field"], problem["file"], problem["line"]) for problem in problems} == {
        ("runtime.siteconf", str(path), line)
    }
    assert all(problem["hint"] for problem in problems)
    assert len({problem["message"] for problem in problems}) == len(problems)
    assert main(["entry", "render", "test"]) == REFUSED
    assert sorted((host / "config.d").iterdir()) == before
    assert list((host / "state").rglob("gwms_bosco_siteconf*")) == []


def test_good_siteconf_passes(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site_file(host / "sites.d", SMALLEST, web_proxies={"discover": ["wpad"], "max_jobs": 10_000})
    assert main(["site", "check", "test", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_what_siteconf_check_says_is_said(tmp_path: Path) -> None:
    (problem,) = siteconf_problems(site_with(tmp_path, {**SMALLEST, "frontier": {"failover_to_server": True}}))
    assert problem.severity == "warning"
    assert problem.message == (
        "SITECONF/local/JobConfig/site-local-config.xml:23: [BOSCO-SITECONF-51] <failover toserver> is not no (CMSSW)"
    )


def test_site_without_a_siteconf_has_no_problem(tmp_path: Path) -> None:
    assert siteconf_problems(changed_site(tmp_path)) == ()


@pytest.mark.parametrize(("rules", "lines"), [(MAX_SHOWN, MAX_SHOWN), (MAX_SHOWN + 1, MAX_SHOWN + 1)])
def test_many_findings_are_counted_and_errors_come_first(tmp_path: Path, rules: int, lines: int) -> None:
    endless = [{"lfn": f"(a+)+{i}", "pfn": "/x"} for i in range(rules - 1)]
    # A number that no group has: a warning, and first in the file.
    protocols = [{"protocol": "WebDAV", "access": "global-rw", "rules": [{"lfn": "/(.*)", "pfn": "$2"}, *endless]}]
    use = {"volume": "Disk", "protocol": "WebDAV"}
    block = {
        "site": "T3_US_HPC",
        "data_access": [use],
        "stage_out": [use],
        "phedex_catalog": [{"protocol": "x", "match": "/(.*)", "result": "/$1"}],
        "event_data": ["trivialcatalog_file:/etc/cvmfs/SITECONF/local/PhEDEx/storage.xml?protocol=x"],
        "local_stage_out": {
            "command": "cp",
            "phedex_node": "T3_US_HPC",
            "catalog": "trivialcatalog_file:/etc/cvmfs/SITECONF/local/PhEDEx/storage.xml?protocol=x",
        },
        "storage": [{**OWN_STORAGE, "protocols": protocols}],
    }
    problems = siteconf_problems(site_with(tmp_path, block))
    assert len(problems) == lines
    assert [problem.severity for problem in problems[: rules - 1]] == ["error"] * (rules - 1)
    assert (problems[-1].message == "and 1 more of its SITECONF") == (rules > MAX_SHOWN)
