# SPDX-License-Identifier: Apache-2.0
"""Storage behind a closed site's firewall: what payloads would not reach is said before they try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.pilot.plan import pilot_plan
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from glideinwms_bosco.pilot.storage_hosts import unreached_storage
from tests.unit.network_text import closed_site
from tests.unit.siteconf_world import SMALLEST, site_with

BLOCK = {
    "site": "T3_XX_Test",
    "data_access": [{"site": "T2_XX_Near", "volume": "Store", "protocol": "XRootD"}],
    "stage_out": [{"site": "T2_XX_Near", "volume": "Store", "protocol": "WebDAV"}],
    "frontier": {"backup_proxies": []},
}
WEB = "davs://192.0.2.11:3128/cms"
"""A forward."""


def lost(folder: Path, xrootd: dict[str, Any], webdav: str = WEB, *changes: tuple[str, str]) -> list[str]:
    """Findings about a site whose sibling has these."""
    sibling = folder / "T2_XX_Near"
    sibling.mkdir(exist_ok=True)
    protocols = [{"protocol": "XRootD", "access": "global-ro", **xrootd}]
    protocols += [{"protocol": "WebDAV", "access": "global-rw", "prefix": webdav}]
    protocols += [{"protocol": "SRM", "access": "global-rw", "prefix": "srm://unused.example.org:8443/"}]
    volume = {"site": "T2_XX_Near", "volume": "Store", "type": "DISK", "rse": None, "protocols": protocols}
    (sibling / "storage.json").write_text(json.dumps([volume]))
    block = json.dumps({**BLOCK, "siblings": {"T2_XX_Near": str(sibling)}})
    site = closed_site(folder, *changes, runtime=f"runtime: {{siteconf: {block}}}\n")
    problems = list(unreached_storage(site))
    planned = [
        problem for problem in pilot_plan(site, default_scripts_dir())[1] if "would not reach" in problem.message
    ]
    assert planned == problems, "the plan, and so `site check`, has them"
    assert all(problem.severity == "warning" and problem.hint and problem.line for problem in problems)
    return [f"{problem.field}: {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("root://192.0.2.10:9618//", ""),
        ("root://10.77.1.9//", ""),
        ("file:///gpfs/cms", ""),
        ("/gpfs/cms", ""),
        ("root://192.0.2.10//", "root://192.0.2.10"),
        ("root://store.example.org:1094//", "root://store.example.org:1094"),
        ("https://192.0.2.10:9619/", "https://192.0.2.10:9619"),
    ],
)
def test_host_of_a_volume_has_to_be_reached(tmp_path: Path, url: str, said: str) -> None:
    wanted = [f"runtime.siteconf.data_access: payloads would not reach {said}: no forward leads there"] if said else []
    assert lost(tmp_path, {"prefix": url}) == wanted
    assert lost(tmp_path, {"rules": [{"lfn": "/+(.*)", "pfn": f"{url}$1"}]}) == wanted


def test_stage_out_is_looked_at_too(tmp_path: Path) -> None:
    (found,) = lost(tmp_path, {"prefix": "/x"}, "davs://store.example.org/cms")
    assert found.startswith("runtime.siteconf.stage_out: payloads would not reach davs://store.example.org:")


def test_payloads_that_are_not_chained_reach_nothing_anyway(tmp_path: Path) -> None:
    change = ("web_proxy: egress", "web_proxy: egress\n  payloads: false")
    assert lost(tmp_path, {"prefix": "root://store.example.org//"}, WEB, change) == []


def test_open_site_has_no_findings(tmp_path: Path) -> None:
    assert list(unreached_storage(site_with(tmp_path, SMALLEST))) == []
