# SPDX-License-Identifier: Apache-2.0
"""credentials_setup under the contract of validation scripts: what it finds, publishes and refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pilot.certificates import Authority
from tests.pilot.harness import Pilot
from tests.pilot.node import UID, Node
from tests.pilot.test_payload import HOSTILE

MakeNode = Callable[..., Node]
MakePilot = Callable[..., Pilot]


def job_environment(pilot: Pilot) -> dict[str, str]:
    """What condor_startup.sh would put into the jobs' environment: variables whose last word is + or @."""
    config, found = pilot.config(), {}
    for line in (pilot.folder / "condor_vars.lst").read_text().splitlines():
        name, _kind, _default, condor, _required, _publish, job = line.split()
        if job != "-" and config.get(name):
            found[condor if job == "@" else name] = config[name]
    return found


def test_finds_the_folder_of_the_node_and_tells_jobs(
    make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path
) -> None:
    Authority(tmp_path / "authority").write_ca_folder(tmp_path / "ca")
    pilot = make_pilot(make_node(), X509_CERT_DIR=str(tmp_path / "ca"), GWMS_BOSCO_X509_REQUIRED="True")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.status) == (0, "OK"), outcome
    assert (outcome.metrics["ca"], outcome.metrics["crls"]) == ("node", "good")
    assert job_environment(pilot) == {"X509_CERT_DIR": str(tmp_path / "ca")}
    assert pilot.published()["GWMS_BOSCO_CA_FROM"] == '"node"'
    assert "GWMS_BOSCO_CA_WARNING" not in pilot.published()


def test_expired_revocation_lists_are_said_and_not_refused(
    make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path
) -> None:
    Authority(tmp_path / "authority").write_ca_folder(tmp_path / "ca", crl_days=-1)
    pilot = make_pilot(make_node(), GWMS_BOSCO_CA_DIR=str(tmp_path / "ca"), GWMS_BOSCO_CA="shipped")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.metrics["crls"]) == (0, "expired"), outcome
    assert "have expired" in pilot.published()["GWMS_BOSCO_CA_WARNING"]


def test_without_a_folder_a_site_that_needs_none_goes_on(make_node: MakeNode, make_pilot: MakePilot) -> None:
    pilot = make_pilot(make_node(), GWMS_BOSCO_CA="cvmfs,shipped")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.metrics["ca"]) == (0, "none"), outcome
    assert job_environment(pilot) == {}


def test_refuses_when_needed_and_absent(make_node: MakeNode, make_pilot: MakePilot) -> None:
    pilot = make_pilot(make_node(), X509_CERT_DIR="/nowhere", GWMS_BOSCO_X509_REQUIRED="True")
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert "BOSCO-CREDENTIALS-03" in outcome.detail and "/nowhere: there is no such folder" in outcome.detail


@pytest.mark.parametrize("policy", ["never", "on-request"])
def test_refuses_a_folder_on_cvmfs_that_not_every_payload_gets(
    make_node: MakeNode, make_pilot: MakePilot, distribution: Path, policy: str
) -> None:
    config = {"GWMS_BOSCO_CVMFSEXEC_DIR": str(distribution), "GWMS_BOSCO_CVMFS_RUNGS": "userns"}
    config |= {"GWMS_BOSCO_CA": "cvmfs", "GWMS_BOSCO_X509_REQUIRED": "True", "GWMS_BOSCO_PAYLOAD_CVMFS": policy}
    pilot = make_pilot(make_node(), **config)
    assert pilot.run("cvmfs_setup").metrics.get("mode") == "userns"
    outcome = pilot.run("credentials_setup")
    assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
    assert f"cvmfs: not every payload is given /cvmfs ({policy})" in outcome.detail
    assert job_environment(pilot) == {}
    pilot.end()


def test_says_how_long_the_pilots_proxy_is_good(make_node: MakeNode, make_pilot: MakePilot, tmp_path: Path) -> None:
    proxy = tmp_path / "proxy"
    Authority(tmp_path / "authority").write_credential(proxy, "pilot")
    os.chown(proxy, UID, UID)
    pilot = make_pilot(make_node(), X509_USER_PROXY=str(proxy))
    assert pilot.run("credentials_setup").metrics["proxy"].startswith("until ")
    proxy.chmod(0o644)
    assert pilot.run("credentials_setup").metrics["proxy"] == "the proxy file has mode 644: others can read it"
    assert "PRIVATE" not in (pilot.folder / "glidein_config").read_text()


@pytest.mark.parametrize("key", ["GWMS_BOSCO_CA", "GWMS_BOSCO_X509_REQUIRED", "GWMS_BOSCO_PAYLOAD_CVMFS"])
def test_refuses_hostile_settings(make_node: MakeNode, make_pilot: MakePilot, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        outcome = make_pilot(node, f"pilot{number}", **{key: value}).run("credentials_setup")
        assert (outcome.rc, outcome.status) == (1, "ERROR"), outcome
        assert key in outcome.detail and len(outcome.detail) < 300
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1


@pytest.mark.parametrize(
    "key", ["X509_CERT_DIR", "X509_USER_PROXY", "GLIDEIN_CONDOR_TOKEN", "GWMS_BOSCO_CA_DIR", "ENTRY_GWMS_BOSCO_CA_DIR"]
)
def test_hostile_paths_are_passed_over(make_node: MakeNode, make_pilot: MakePilot, key: str) -> None:
    node = make_node()
    for number, value in enumerate(HOSTILE):
        pilot = make_pilot(node, f"pilot{number}", **{key: f"/{value}"})
        outcome = pilot.run("credentials_setup")
        assert (outcome.rc, outcome.metrics["ca"]) == (0, "none"), outcome
        assert all(len(value) < 600 for value in pilot.published().values())
    assert node.run(["test", "-e", "/tmp/injected"]).returncode == 1
