# SPDX-License-Identifier: Apache-2.0
"""The tunnel's key at a lab site: made by deploy, used by a worker for the tunnel alone, gone by remove."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import gwms_bosco, key_of
from tests.lab.sites import LabSite

ACCOUNT = "pilot"
WORKER = "worker1"
LOGIN, OUTSIDE = "10.77.1.1", "10.77.0.30"
"""As workers see the login node; the host behind the firewall."""
HOME = "/shared/pilot"
KEYS = f"{HOME}/.ssh/authorized_keys"


@dataclass(frozen=True)
class ClosedSite(LabSite):
    """A site with a tunnel."""

    def text(self, lab: Lab) -> str:
        """The site file."""
        network = {
            "login_hosts": [LOGIN],
            "workers": ["10.77.1.0/24"],
            "exit_addresses": ["10.77.0.20/32"],
            "tunnel": {"auth": "site-key", "accept_key_on_site": True},
            "egress": {"kind": "http-connect", "host": OUTSIDE, "port": 80},
            "forwards": [{"name": "pool", "host": OUTSIDE, "port": 9618}],
        }
        return json.dumps({**json.loads(super().text(lab)), "network": network}, indent=1)


@pytest.fixture
def site(lab: Lab) -> Iterator[ClosedSite]:
    """The site, and authorized_keys of its account as it was before, afterwards."""
    before = lab.read_file("login", KEYS)
    site = ClosedSite("sitekey")
    site.add(lab)
    yield site
    site.remove(lab)
    lab.write_file("login", KEYS, before, ACCOUNT, 0o600)


def ssh(lab: Lab, site: LabSite, *words: str) -> Any:
    """Log in to the login node from a worker with the site's key."""
    argv = ["ssh", "-F", "none", "-i", f"{HOME}/bosco-{site.name}/egress/id_ed25519", "-o", "IdentitiesOnly=yes"]
    argv += ["-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]
    return lab.run(WORKER, [*argv, *words, f"{ACCOUNT}@{LOGIN}"], user=ACCOUNT, check=False)


def test_key_of_the_site_opens_the_tunnel_and_nothing_else(lab: Lab, site: ClosedSite) -> None:
    before = lab.read_file("login", KEYS)
    first = site.deploy(lab)["site_key"]
    assert first["action"] == "made"
    assert "payloads run as the same user" in first["warning"]
    assert lab.read_file("login", KEYS) == f"{before}{first['line']}\n"
    assert site.deploy(lab)["site_key"]["action"] == "unchanged"
    # The firewall lets the login node out to port 80; whether something listens there is not what is tried.
    allowed = ssh(lab, site, "-W", f"{OUTSIDE}:80")
    assert "prohibited" not in allowed.stderr
    assert "Permission denied" not in allowed.stderr
    assert "prohibited" in ssh(lab, site, "-W", f"{OUTSIDE}:9618").stderr
    second = site.deploy(lab, "--rotate-site-key")["site_key"]
    assert (second["action"], second["public_key"] != first["public_key"]) == ("rotated", True)
    assert lab.read_file("login", KEYS) == f"{before}{second['line']}\n"
    assert "prohibited" in ssh(lab, site, "-W", f"{OUTSIDE}:9618").stderr
    done = gwms_bosco(lab, "remote", "remove", site.name, "--key", key_of(ACCOUNT), "--json")
    assert json.loads(done.stdout)["site_key"] is True
    assert lab.read_file("login", KEYS) == before
    assert lab.run("login", ["test", "-e", f"{HOME}/bosco-{site.name}"], check=False).returncode == 1
