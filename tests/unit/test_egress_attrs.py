# SPDX-License-Identifier: Apache-2.0
"""Attributes and files of an entry behind a tunnel, as rendered and as glideinWMS makes a configuration of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glideinwms_bosco.cli.main import main
from glideinwms_bosco.egress.attrs import egress_attrs, timeout_multiplier
from glideinwms_bosco.pilot.attrs import runtime_attrs
from glideinwms_bosco.pilot.plan import EGRESS_CHECK_PERIOD_S, PilotPlan, pilot_plan
from glideinwms_bosco.site.network import ConnectLimits
from tests.unit.glideinwms_source import factory_for_commands, is_checkout
from tests.unit.network_text import PILOT_IMAGE, closed, closed_site
from tests.unit.pilot_world import make_scripts
from tests.unit.site_text import changed_site

SOURCE = os.environ.get("GLIDEINWMS_SRC", "")
OK = 0
CVMFS = "cvmfs: {repositories: [cms.cern.ch]}"
# Source: glideinWMS 3.10 creation/web_base/condor_vars.lst, where their sixth column forbids glidein_publish.
IN_CONDOR_VARS = {"UPDATE_COLLECTOR_WITH_TCP", "USE_SHARED_PORT", "WANT_UDP_COMMAND_SOCKET"}
HTCONDOR = {
    "CCB_HEARTBEAT_INTERVAL": "120",
    "DEAD_COLLECTOR_MAX_AVOIDANCE_TIME": "120",
    "ENABLE_IPV6": "False",
    "MASTER_TIMEOUT_MULTIPLIER": "2",
    "STARTD_TIMEOUT_MULTIPLIER": "2",
    "STARTER_TIMEOUT_MULTIPLIER": "2",
    "UPDATE_COLLECTOR_WITH_TCP": "True",
    "USE_CCB": "True",
    "USE_SHARED_PORT": "False",
    "WANT_UDP_COMMAND_SOCKET": "False",
}


def plan_of(folder: Path, *changes: tuple[str, str], runtime: str = "") -> PilotPlan:
    plan, problems = pilot_plan(closed_site(folder, *changes, runtime=runtime), make_scripts(folder / "scripts"))
    assert problems == ()
    return plan


def names(plan: PilotPlan) -> list[str]:
    return [file.name for file in plan.files]


def test_open_site_gets_nothing(tmp_path: Path) -> None:
    assert egress_attrs(changed_site(tmp_path)) == ()


def test_attributes(tmp_path: Path) -> None:
    found = {attr.name: attr.value for attr in egress_attrs(closed_site(tmp_path))}
    assert found == {
        **HTCONDOR,
        "GWMS_BOSCO_EGRESS": "http-connect",
        "GWMS_BOSCO_EGRESS_PAYLOADS": "True",
    }


def test_flags_are_those_that_reconfig_takes_and_that_reach_condor_config(tmp_path: Path) -> None:
    for attr in egress_attrs(closed_site(tmp_path)):
        assert attr.const
        assert attr.parameter
        assert attr.glidein_publish is (attr.name in HTCONDOR and attr.name not in IN_CONDOR_VARS)
        # Only glideinWMS itself reads USE_CCB; a string would stand in quotes in condor_config.
        plain = attr.name == "USE_CCB" or attr.name not in HTCONDOR
        assert attr.type == ("int" if attr.value.isdigit() else "string" if plain else "expr")


@pytest.mark.parametrize(("connect_ms", "read_ms", "times"), [(8000, 11999, 1), (8000, 12000, 2), (20000, 60000, 5)])
def test_htcondor_waits_longer_than_the_chain(connect_ms: int, read_ms: int, times: int) -> None:
    assert timeout_multiplier(ConnectLimits(connect_ms, read_ms)) == times


def test_site_with_nothing_but_the_block_has_its_three_scripts(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert [(file.name, file.kind, file.period_s) for file in plan.files] == [
        ("egress_setup", "executable", 0),
        ("egress_wrapper.sh", "wrapper", 0),
        ("egress_check", "executable", EGRESS_CHECK_PERIOD_S),
    ]
    assert EGRESS_CHECK_PERIOD_S == 60
    assert "GWMS_BOSCO_EGRESS" in {attr.name for attr in plan.attrs}


def test_payloads_that_are_not_chained_get_no_wrapper(tmp_path: Path) -> None:
    assert names(plan_of(tmp_path, ("web_proxy: egress", "web_proxy: egress\n  payloads: false"))) == [
        "egress_setup",
        "egress_check",
    ]


def test_tunnel_comes_first_and_its_web_proxy_needs_no_block(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, runtime=f"runtime: {{{CVMFS}}}\n")
    assert names(plan)[:3] == ["egress_setup", "proxy_setup", "cvmfs_setup"]
    assert "proxy_check" in names(plan)
    values = {attr.name: attr.value for attr in plan.attrs}
    assert values["GWMS_BOSCO_WEB_PROXY_DIRECT"] == "False"
    assert "GWMS_BOSCO_WEB_PROXIES" not in values


@pytest.mark.parametrize(
    ("change", "runtime"),
    [
        (("  web_proxy: egress\n", ""), f"runtime: {{{CVMFS}}}\n"),
        (("cpus: 8", "cpus: 8"), "runtime: {cvmfs: {repositories: [a.b], proxy: 'http://10.77.1.9:3128'}}\n"),
    ],
)
def test_no_web_proxy_is_looked_for_where_none_is_of_the_tunnel(
    tmp_path: Path, change: tuple[str, str], runtime: str
) -> None:
    assert "proxy_setup" not in names(plan_of(tmp_path, change, runtime=runtime))


def test_pilot_in_a_container_finds_cvmfs_as_the_nodes_own(tmp_path: Path) -> None:
    """What the job wrapper has mounted must not be mounted again, and needs no distribution in the pilot."""
    runtime = f"runtime: {{cvmfs: {{repositories: [a.b], cvmfsexec: {{path: /nowhere}}}}, {PILOT_IMAGE}}}\n"
    there = ("web_proxy: egress", "web_proxy: egress\n  cvmfsexec: /project/cvmfsexec")
    plan = plan_of(tmp_path, there, runtime=runtime)
    assert "gwms_bosco_cvmfsexec" not in names(plan)
    assert {attr.value for attr in plan.attrs if attr.name == "GWMS_BOSCO_CVMFS_RUNGS"} == {"native"}


def test_own_attribute_of_an_entry_wins(tmp_path: Path) -> None:
    site = closed_site(tmp_path, ("cpus: 8", "cpus: 8\n    attrs: {CCB_HEARTBEAT_INTERVAL: 60}"))
    assert site.entries[0].attrs[0].value == "60"
    assert "CCB_HEARTBEAT_INTERVAL" in {attr.name for attr in runtime_attrs(site)}


@pytest.mark.skipif(not is_checkout(SOURCE), reason="GLIDEINWMS_SRC names no glideinWMS checkout")
def test_settings_reach_condor_config_by_glideinwms_own_reconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = factory_for_commands(tmp_path, SOURCE, monkeypatch)
    monkeypatch.setenv("GWMS_BOSCO_SCRIPTS", str(make_scripts(tmp_path / "scripts")))
    (tmp_path / "sites.d" / "closed.yaml").write_text(closed(runtime=f"runtime: {{{CVMFS}}}\n"), encoding="utf-8")
    assert main(["entry", "render", "--lint"]) == OK
    run = factory.reconfig()
    assert run.returncode == 0, run.stdout + run.stderr
    (folder,) = (factory.work.parent / "stage").glob("**/entry_Test_Entry")

    def rows(pattern: str, where: Path = folder) -> dict[str, list[str]]:
        (found,) = sorted(where.glob(pattern))
        lines = found.read_text(encoding="utf-8").splitlines()
        return {line.split()[0]: line.split()[1:] for line in lines if line and line[0] != "#"}

    constants = rows("constants.*")
    assert {name: constants[name][0] for name in HTCONDOR} == HTCONDOR
    entry_lines, main_lines = rows("condor_vars.*"), rows("condor_vars.*", folder.parent)
    for name in HTCONDOR:
        # type, default, name in condor_config (+: the same), required, in the machine ad, in the job's environment
        kind, _, condor_name, required, _, _ = (entry_lines if name not in IN_CONDOR_VARS else main_lines)[name]
        assert (condor_name, required) == ("+", "N")
        assert kind == ("S" if name == "USE_CCB" else "I" if HTCONDOR[name].isdigit() else "C")
    files = list(rows("file_list.*"))
    assert files.index("egress_setup") < files.index("proxy_setup") < files.index("cvmfs_setup")
    assert rows("file_list.*")["egress_check"][2] == "60"
