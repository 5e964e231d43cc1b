# SPDX-License-Identifier: Apache-2.0
"""A factory and a frontend set up by nothing but the packages and the blocks of the guides run a pilot by a handle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import packaged, payloads
from tests.lab.factory_pilots import local_words, prepare_jobs, submit_pilot
from tests.lab.follow import Follower, add_gfactory, name_hosts
from tests.lab.keyless import CONDOR_CONFIG_D, authorise
from tests.lab.lab import Lab
from tests.lab.operator import CONFIG_D, USER
from tests.lab.pilots import bring_entry
from tests.lab.settings import WORKERS
from tests.lab.waiting import await_no_gahp, await_true
from tests.pages import Step, steps_of

UP_DEADLINE_S = 30.0
CREDENTIALS = "/var/lib/gwms-factory/client-proxies"
HOSTS = ("factory", "frontend")
CONDOR_SNIPPET = f"{CONDOR_CONFIG_D}/51-guides.conf"
# The lab's HTCondor belongs to the factory's account and reads its folder; that of a host obeys root and reads /etc.
CONDOR_OF_A_HOST = """\
ALLOW_ADMINISTRATOR = *
include ifexist : /etc/condor/config.d/50-gwms-ssh-relay.conf
"""
RENDERED = f"{CONFIG_D}/50-example.xml"
HOOK = "/etc/gwms-factory/hooks.reconfig.pre/50-gwms-bosco"
SITE, ENTRY = "T3_XX_Example", "CMSHTPC_T3_XX_Example"


def between(page: str, first: str, last: str = "") -> list[Step]:
    """Steps of a page from the one whose text or path has `first` up to the one before that with `last`."""
    steps = list(steps_of(page))
    begin = next(i for i, step in enumerate(steps) if first in step.text or first in step.what)
    end = next((i for i, step in enumerate(steps) if last and (last in step.text or last in step.what)), len(steps))
    return steps[begin:end]


@pytest.fixture
def hosts(pool: Lab) -> Iterator[Lab]:
    """A factory and a frontend with glideinWMS and without us."""
    pool.ensure("frontend")
    name_hosts(pool, *HOSTS)
    prepare_jobs(pool)
    add_gfactory(pool)
    if pool.run("frontend", ["id", "frontend"], check=False).returncode:
        pool.run("frontend", ["useradd", "--system", "frontend"])
    with packaged.bare(pool, *HOSTS):
        packaged.add_glideinwms(pool, "factory", "gfactory")
        packaged.add_glideinwms(pool, "frontend", "frontend")
        pool.write_file("factory", CONDOR_SNIPPET, CONDOR_OF_A_HOST, USER)
        pool.run("factory", ["condor_reconfig"], user=USER)
        yield pool
        await_no_gahp(pool)
    pool.run("factory", ["rm", CONDOR_SNIPPET])
    pool.run("factory", ["condor_reconfig"], user=USER)


def test_guides_lead_from_packages_to_a_pilot_by_a_handle(hosts: Lab, rpms: Path) -> None:
    lab = hosts
    for host in HOSTS:
        assert packaged.found(lab, host) == []
    prints = lab.run("login", ["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    follower = Follower(
        lab, rpms,
        {
            "FACTORY_ADDRESS": "10.77.0.10",
            "LOGIN_FINGERPRINT": prints.split()[1],
            "PASSPHRASE": "correct horse battery staple",
        },
    )  # fmt: skip
    follower.follow(between("operator.md", "dnf install", "relay.conf"))
    follower.follow(between("frontend.md", "dnf install", "ssh-keygen"))
    for host in HOSTS:
        assert packaged.module_path(lab, host).startswith("/usr/lib/python3"), host
        # Each belongs to a package.
        packaged.rpm(lab, host, "-qf", *packaged.found(lab, host))
    follower.follow(between("operator.md", "relay.conf", "site hostkeys"))
    follower.follow(between("frontend.md", "ssh-keygen", "key open"))
    authorise(lab, "login", "pilot", follower.values["AUTHORIZED_KEYS_LINE"])
    await_true(
        lambda: " up since" in lab.run("frontend", ["gwms-ssh-broker", "status"]).stdout.partition("factory")[2],
        "the broker is connected", UP_DEADLINE_S,
    )  # fmt: skip
    follower.follow(between("frontend.md", "key open", "stanza"))
    follower.follow(between("operator.md", "site hostkeys"))
    follower.follow(between("frontend.md", "stanza"))
    assert 'trust_domain="example"' in follower.values["STANZA"]

    rendered = lab.read_file("factory", RENDERED)
    lab.run("factory", [HOOK], user="gfactory")
    assert lab.read_file("factory", RENDERED) == rendered

    run_pilot(lab, carry_credential(lab))
    for host in HOSTS:
        packaged.verify(lab, host)


def carry_credential(lab: Lab) -> str:
    """Do what glideinWMS does with the handle's file of the frontend; its path at the factory."""
    handle = lab.run("frontend", ["sh", "-c", "ls /etc/gwms-frontend/ssh/example-* | grep -v pub"]).stdout.split()[0]
    folder = f"{CREDENTIALS}/user_fecms/glidein_gfactory"
    lab.host("factory").make_dirs(CREDENTIALS)
    lab.run("factory", ["install", "-d", "-o", USER, "-m", "0700", folder.rpartition("/")[0], folder])
    path = f"{folder}/credential_cms_example"
    lab.write_file("factory", path, lab.read_file("frontend", handle), f"{USER}:{USER}", 0o600)
    return path


def run_pilot(lab: Lab, key: str) -> None:
    """A pilot of the entry as it is rendered runs a payload that finds what the site file says."""
    await_no_gahp(lab)
    entry = bring_entry(lab, RENDERED, ENTRY)
    pilot = submit_pilot(lab, entry, "guides", local_words(entry, "guides", idle_s=15), key)
    payload = payloads.submit(lab, pilot, 'cat "$SITECONFIG_PATH/JobConfig/site-local-config.xml"')
    pilot.await_joined()
    assert (pilot.ad("Machine") or {})["Machine"] in WORKERS
    assert payload.exit_code() == 0, payload.stderr()
    assert f'<site name="{SITE}">' in payload.stdout()
    await_true(lambda: "Normal termination (return value 0)" in pilot.log(), "pilot's job ended", 60.0)
    assert "=== siteconf_setup: 0" in pilot.output()
