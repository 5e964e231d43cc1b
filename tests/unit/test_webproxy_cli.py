# SPDX-License-Identifier: Apache-2.0
"""The budget of web proxies where operators meet it: site check, entry render, web-proxy show, remote status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.cli import remote_status, web_proxies, web_proxy
from glideinwms_bosco.cli.checks import checked_sites
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.site_bundles import SiteBundles
from glideinwms_bosco.errors import ScheddError
from glideinwms_bosco.webproxy.capacity import spread_s
from tests.unit.pilot_world import make_scripts
from tests.unit.site_text import VALID, use_host_folders
from tests.unit.test_remote_deploy import make_bundle

OK, REFUSED = 0, 1
SQUID = "http://squid.example.org:3128"
BUNDLE = make_bundle({"bin/blahpd": (b"#!/bin/sh\n", 0o755)})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "host"
    folder.mkdir()
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    yield use_host_folders(folder, monkeypatch)


def block(clients: int = 1000) -> str:
    return f'runtime: {{web_proxies: {{proxies: [{{url: "{SQUID}", capacity: {{clients: {clients}}}}}]}}}}\n'


def write(host: Path, name: str, limit: str, runtime: str) -> Path:
    """A site of one entry; `limit` are its limits."""
    text = VALID.replace("Test_Entry", f"Entry_{name}").replace("login.example.org", f"{name}.example.org")
    path = host / "sites.d" / f"{name}.yaml"
    path.write_text(text.replace("entries:\n", runtime + "entries:\n") + limit, encoding="utf-8")
    return path


def limit(glideins: int) -> str:
    return f"    limits: {{per_entry: {{glideins: {glideins}}}}}\n"


def external(host: Path, name: str, per_entry: str = "") -> Path:
    """A site whose entry stands in somebody else's file."""
    original = f'<glidein><entries><entry name="CE_{name}"><config><max_jobs>{per_entry}</max_jobs></config>'
    (host / "config.d" / f"10-{name}.xml").write_text(original + "</entry></entries></glidein>", encoding="utf-8")
    path = host / "sites.d" / f"{name}.yaml"
    text = f"site: T3_XX_{name}\nsubmission: external\nentries: [{{name: CE_{name}}}]\n{block()}"
    path.write_text(text, encoding="utf-8")
    return path


Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """`site check --json` of the sites with these names."""

    def run(*names: str) -> dict[str, Any]:
        status = main(["site", "check", *names, "--json"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert found["ok"] == (status == OK)
        return found

    return run


def messages(found: dict[str, Any]) -> list[str]:
    return [problem["message"] for problem in found["problems"] if problem["severity"] == "error"]


def test_check_of_one_site_looks_at_the_others(host: Path, check: Check) -> None:
    write(host, "a", limit(600), block())
    write(host, "b", limit(400), block())
    found = check("b")
    assert found["ok"]
    assert [(use["site"], use["clients"]) for use in found["web_proxies"][0]["uses"]] == [("a", 600), ("b", 400)]
    write(host, "a", limit(601), block())
    found = check("b")
    assert messages(found) == [f"{SQUID} bears 1000 pilots, and the limits of its entries allow 1001"]
    assert {problem["file"] for problem in found["problems"]} == {str(host / "sites.d" / "b.yaml")}
    assert found["web_proxies"][0]["excess"] == 1
    assert len({problem["file"] for problem in check()["problems"]}) == 2


def test_refusal_shows_the_sums(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, "a", limit(600), block())
    write(host, "b", limit(500), block())
    assert main(["site", "check"]) == REFUSED
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["WEB", "PROXY", "BEARS", "LIMITS", "START", "WITHIN"]
    assert lines[1] == [SQUID, "1000", "clients", "1100", "TOO", "MANY"]
    assert lines[2:6] == [["a", "600"], ["Entry_a", "600"], ["b", "500"], ["Entry_b", "500"]]


def test_fixed_proxy_of_cvmfs_counts_with_the_limits_of_its_site(
    host: Path, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    write(host, "a", limit(600), block())
    fixed = f'runtime: {{cvmfs: {{repositories: [a.example.org], rungs: [native], proxy: "{SQUID}"}}}}\n'
    write(host, "b", limit(400), fixed)
    assert check("b")["ok"]
    assert main(["site", "check", "b"]) == OK
    assert ["Entry_b", "(cvmfs.proxy)", "400"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    write(host, "b", limit(401), fixed)
    assert messages(check("b")) == [f"{SQUID} bears 1000 pilots, and the limits of its entries allow 1001"]
    (host / "sites.d" / "a.yaml").unlink()
    found = check("b")
    assert found["ok"]
    assert [problem["field"] for problem in found["problems"]] == ["runtime.cvmfs.proxy"]


def test_entry_without_a_limit_counts_with_that_of_glideinwms(host: Path, check: Check) -> None:
    write(host, "a", "", block())
    assert "allow 10000" in messages(check())[0]


def test_site_without_web_proxies_prints_no_table(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, "a", "", "")
    assert main(["site", "check"]) == OK
    assert "WEB PROXY" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("per_entry", "clients"), [('<per_entry glideins="70"/>', 70), ("", 10_000), ('<per_entry idle="5"/>', 10_000)]
)
def test_external_entry_counts_with_the_limit_of_its_original(
    host: Path, check: Check, per_entry: str, clients: int
) -> None:
    external(host, "ce", per_entry)
    write(host, "b", limit(900), block())
    found = check("b")
    assert found["web_proxies"][0]["clients"] == 900 + clients
    assert found["ok"] == (clients == 70)


def test_external_entry_without_original_is_a_warning_to_the_others(host: Path, check: Check) -> None:
    external(host, "ce")
    (host / "config.d" / "10-ce.xml").unlink()
    write(host, "b", limit(900), block())
    found = check("b")
    assert found["ok"]
    assert any("limit of entry CE_ce of site ce is not known" in problem["message"] for problem in found["problems"])


def test_render_gives_pilots_the_window_of_all_sites(host: Path) -> None:
    write(host, "a", limit(200), block())
    write(host, "b", limit(800), block())
    assert main(["entry", "render", "a"]) == OK
    root = etree.parse(str(host / "config.d" / "50-a.xml")).getroot()
    (value,) = [attr.get("value") for attr in root.iter("attr") if attr.get("name") == "GWMS_BOSCO_WEB_PROXY_SPREAD_S"]
    assert value == str(spread_s(1000, 50))
    assert int(value) > (spread_s(200, 50) or 0)
    files = [(file.get("relfname"), file.get("period")) for file in root.iter("file")]
    assert files == [("proxy_setup", "0"), ("proxy_check", "300")]


def test_refused_budget_renders_nothing(host: Path) -> None:
    write(host, "a", limit(1001), block())
    assert main(["entry", "render"]) == REFUSED
    assert list((host / "config.d").iterdir()) == []


def test_pilot_show_has_the_same_window(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, "a", limit(200), block())
    write(host, "b", limit(800), block())
    assert main(["pilot", "show", "a", "--json"]) == OK
    shown = json.loads(capsys.readouterr().out)["a"]
    assert shown["attributes"]["GWMS_BOSCO_WEB_PROXY_SPREAD_S"] == str(spread_s(1000, 50))


def test_budget_stops_no_command_that_goes_to_login_hosts(host: Path) -> None:
    path = write(host, "a", limit(5000), block())
    assert checked_sites([path]).sites[0].short_name == "a"


@pytest.fixture
def world(host: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sites, a schedd with pilots, a pool in which most have stepped back."""

    def bundle(*_: Any) -> tuple[Bundle, None]:
        return BUNDLE, None

    def machines(pool: str, *_: Any) -> list[dict[str, Any]]:
        if pool == "down.example.org":
            raise ScheddError("pool down.example.org cannot be asked: it is down")
        ps = "GLIDEIN_PS_GWMS_BOSCO_WEB_PROXY"
        back = {ps: "none", f"{ps}_STATE": "none", "GWMS_BOSCO_WEB_PROXY": SQUID}
        good = {ps: SQUID, f"{ps}_STATE": "main", f"{ps}_LATENCY_MS": 30, f"{ps}_ERRORS": 1}
        return [
            {"Name": f"glidein_{i}@n", "GLIDEIN_Entry_Name": "Entry_a", **(back if i % 2 else good)} for i in range(40)
        ] + [{"Name": "x"}]

    ads = [
        {"GridResource": "batch slurm pilot@a.example.org", "JobStatus": status, "GlideinEntryName": entry}
        for status, entry in ((2, "Entry_a"), (6, "Entry_a"), (1, "Entry_a"), (2, "Entry_b"), (2, "Other"))
    ]
    write(host, "a", limit(300), block())
    write(host, "b", limit(100), block())
    for module in (remote_status, web_proxy):
        monkeypatch.setattr(module, "query_pilots", lambda: ads)
    monkeypatch.setattr(web_proxies, "query_machines", machines)
    for name in ("get", "get_for"):
        monkeypatch.setattr(SiteBundles, name, bundle)
    monkeypatch.setattr(SiteBundles, "depends_on_machine", lambda *_: False)
    return host


def use_pools(host: Path, monkeypatch: pytest.MonkeyPatch, *pools: str) -> None:
    path = host / "gwms-bosco.yaml"
    path.write_text(f"pool: [{', '.join(pools)}]\n", encoding="utf-8")
    monkeypatch.setenv("GWMS_BOSCO_CONFIG", str(path))


def test_show_puts_planned_running_and_measured_side_by_side(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_pools(world, monkeypatch, "collector.example.org:9618", "down.example.org")
    assert main(["web-proxy", "show"]) == OK
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[-8:] == ["s", "3", "40", "20", "20", "30", "ms", "20"]
    assert f"{SQUID}: 50% of 40 pilots have stepped back from it; proposed: 30 pilots (Entry_a 22, Entry_b 7)" in out
    assert "note: pool collector.example.org:9618: 1 machine ad could not be read" in out
    assert "note: pool down.example.org cannot be asked: it is down" in out
    assert main(["web-proxy", "show", "--json"]) == OK
    (shown,) = json.loads(capsys.readouterr().out)["web_proxies"]
    assert (shown["clients"], shown["running"], shown["measured"]["stepped_back"]) == (400, 3, 20)
    assert shown["proposal"]["limits"] == {"Entry_a": 22, "Entry_b": 7}


@pytest.mark.usefixtures("world")
def test_without_a_pool_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web-proxy", "show", "--json"]) == OK
    (shown,) = json.loads(capsys.readouterr().out)["web_proxies"]
    assert (shown["running"], shown["measured"], shown["proposal"]) == (3, None, None)


def test_planned_asks_nobody(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use_pools(world, monkeypatch, "collector.example.org")

    def never(*_: Any) -> Any:
        raise AssertionError("asked")

    monkeypatch.setattr(web_proxy, "query_pilots", never)
    monkeypatch.setattr(web_proxies, "query_machines", never)
    assert main(["web-proxy", "show", "--planned"]) == OK
    assert capsys.readouterr().out.splitlines()[1].split()[-6:] == ["?"] * 6


def test_broken_site_file_is_told_and_stops_nothing(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "sites.d" / "c.yaml").write_text("site: [\n", encoding="utf-8")
    assert main(["web-proxy", "show"]) == OK
    assert any("note: not counted: " in line and "c.yaml" in line for line in capsys.readouterr().out.splitlines())


def test_note_of_a_refused_site_file_is_its_error_and_no_warning(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = f"cms_site: T3_XX_Test\n{block(clients=1)}".replace("runtime: {", "runtime: {siteconf: {}, ")
    write(world, "c", "", runtime)
    assert main(["web-proxy", "show", "--planned"]) == OK
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert "error: runtime.siteconf.stage_out" in note


def test_show_without_any_proxy_says_so(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host, "a", "", "")
    assert main(["web-proxy", "show", "--planned"]) == OK
    assert capsys.readouterr().out == "no site names a web proxy or has pilots discover one\n"


def test_remote_status_ends_with_the_load(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_pools(world, monkeypatch, "collector.example.org")
    assert main(["remote", "status", "--no-connect"]) == OK
    out = capsys.readouterr().out
    assert "WEB PROXY" in out
    assert "proposed: 30 pilots" in out
    assert main(["remote", "status", "a", "--no-connect", "--json"]) == OK
    (shown,) = json.loads(capsys.readouterr().out)["web_proxies"]
    assert shown["measured"]["using"] == 20


def test_pool_setting_takes_hosts_only(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(host, "a", limit(1), block())
    use_pools(host, monkeypatch, '"-pool x"')
    assert main(["web-proxy", "show", "--planned"]) == 2
