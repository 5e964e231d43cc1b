# SPDX-License-Identifier: Apache-2.0
"""A factory and a frontend set up by nothing but the blocks of the guides run a job through broker and relay."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.lab.follow import Follower, add_gfactory, add_systemctl, name_hosts
from tests.lab.keyless import _FACTORY_PROGRAMS, _FRONTEND_PROGRAMS, CONDOR_CONFIG_D, RELAY_SNIPPET, _install, authorise
from tests.lab.lab import Lab
from tests.lab.operator import CONFIG_D, USER, prepare_factory
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.sites import run_test
from tests.lab.waiting import await_no_gahp, await_true
from tests.pages import Step, steps_of

UP_DEADLINE_S = 30.0
CREDENTIALS = "/var/lib/gwms-factory/client-proxies/user_fecms"


def between(page: str, first: str, last: str = "") -> list[Step]:
    """Steps of a page from the one whose text or path has `first` up to the one before that with `last`."""
    steps = list(steps_of(page))
    begin = next(i for i, step in enumerate(steps) if first in step.text or first in step.what)
    end = next((i for i, step in enumerate(steps) if last and (last in step.text or last in step.what)), len(steps))
    return steps[begin:end]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Lab]:
    """What the packages of both hosts bring, from the checkout; a lab of its own, as nothing else may be there."""
    lab = Lab(f"gwmsguides{os.getpid()}")
    lab.up()
    try:
        prepare_factory(lab)
        _install_packages(lab)
        yield lab
    finally:
        lab.down()


def _install_packages(lab: Lab) -> None:
    lab.ensure("frontend")
    name_hosts(lab, "factory", "frontend")
    add_gfactory(lab)
    for host, programs, unit in (
        ("factory", _FACTORY_PROGRAMS, "gwms-ssh-relay"),
        ("frontend", _FRONTEND_PROGRAMS, "gwms-ssh-broker"),
    ):
        _install(lab, host, programs)
        add_systemctl(lab, host)
        lab.run(host, ["useradd", "--system", "--user-group", unit])
        lab.run(host, ["install", "-d", "/usr/lib/systemd/system"])
        unit_file = f"{CHECKOUT_IN_HOST}/packaging/systemd/{unit}.service"
        lab.run(host, ["install", "-m", "0644", unit_file, "/usr/lib/systemd/system/"])
    lab.run("frontend", ["useradd", "--system", "frontend"])
    lab.run("frontend", ["install", "-d", "-m", "0750", "-g", "gwms-ssh-broker", "/etc/gwms-ssh-broker"])
    lab.run("factory", ["install", "-d", "-o", "gwms-ssh-relay", "/etc/gwms-ssh-relay"])
    lab.run(
        "factory", ["install", "-m", "0644", f"{CHECKOUT_IN_HOST}/factory_configs/relay.conf", "/etc/gwms-ssh-relay/"]
    )
    snippet = lab.run("factory", ["cat", f"{CHECKOUT_IN_HOST}/factory_configs/htcondor/50-gwms-ssh-relay.conf"]).stdout
    lab.write_file("factory", RELAY_SNIPPET, snippet, USER)
    # The lab's HTCondor belongs to the factory's account; that of a host obeys root.
    lab.write_file("factory", f"{CONDOR_CONFIG_D}/51-guides.conf", "ALLOW_ADMINISTRATOR = *\n", USER)
    lab.run("factory", ["condor_reconfig"], user=USER)
    lab.run("factory", ["install", "-d", "-m", "0755", "/var/lib/gwms-factory", "/var/lib/gwms-factory/client-proxies"])


def test_guides_lead_from_packages_to_a_job_by_a_handle(hosts: Lab) -> None:
    lab = hosts
    prints = lab.run("login", ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    follower = Follower(
        lab,
        {
            "FACTORY_ADDRESS": "10.77.0.10",
            "LOGIN_FINGERPRINT": prints.split()[1],
            "PASSPHRASE": "correct horse battery staple",
        },
    )
    follower.follow(between("operator.md", "gwms-ssh-relay init", "relay.conf"))
    follower.follow(between("frontend.md", "gwms-ssh-broker init", "ssh-keygen"))
    follower.follow(between("operator.md", "relay.conf", "site hostkeys"))
    follower.follow(between("frontend.md", "ssh-keygen", "key open"))
    authorise(lab, "login", "pilot", follower.values["AUTHORIZED_KEYS_LINE"])
    await_true(
        lambda: " up since" in lab.run("frontend", ["gwms-ssh-broker", "status"]).stdout.partition("factory")[2],
        "the broker is connected", UP_DEADLINE_S,
    )  # fmt: skip
    follower.follow(between("frontend.md", "key open", "stanza"))
    follower.follow(between("operator.md", "site hostkeys"))
    assert "CMSHTPC_T3_XX_Example" in lab.read_file("factory", f"{CONFIG_D}/50-example.xml")

    follower.follow(between("frontend.md", "stanza"))
    assert 'trust_domain="example"' in follower.values["STANZA"]
    handle = lab.run("frontend", ["sh", "-c", "ls /etc/gwms-frontend/ssh/example-* | grep -v pub"]).stdout.split()[0]
    # glideinWMS carries the file there.
    lab.run("factory", ["install", "-d", "-o", USER, "-m", "0700", CREDENTIALS, f"{CREDENTIALS}/glidein_gfactory"])
    path = f"{CREDENTIALS}/glidein_gfactory/credential_cms_example"
    lab.write_file("factory", path, lab.read_file("frontend", handle), f"{USER}:{USER}", 0o600)
    await_no_gahp(lab)
    result = run_test(lab, "example", "--exit-code", "3", key=path)
    assert result["passed"], result
