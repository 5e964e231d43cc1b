# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between factory and login node: one clear line, the right exit status, nothing changed there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import SITES, STATE, USER, add_site, gwms_bosco, host_keys, key_of
from tests.lab.sites import LabSite
from tests.lab.waiting import await_no_gahp

REFUSED, USAGE, REMOTE = 1, 2, 3


def tree(lab: Lab, host: str, folder: str) -> str:
    """Everything below a folder: names, modes, sizes, link targets and times.

    Locks say nothing, and a refused command too is a connection and an event of the history.
    """
    noted = ["(", "-name", "connections", "-o", "-name", "history", "-o", "-name", "failed", ")", "-prune"]
    folders = ["-type", "d", "-printf", "%P/ %m\n"]
    files = ["!", "-name", "entries.lock", "-printf", "%P %m %s %l %T@\n"]
    own = [*noted, "-o"] if folder == STATE else []
    return lab.run(host, ["find", folder, *own, *folders, "-o", *files], check=False).stdout


@contextmanager
def unchanged(lab: Lab, host: str = "login", home: str = "/shared") -> Iterator[None]:
    """Nothing changes in the homes of the login node, in the factory's state or in config.d."""
    places = ((host, home), ("factory", STATE), ("factory", SITES), ("factory", "/etc/gwms-factory"))
    before = [tree(lab, *place) for place in places]
    yield
    assert [tree(lab, *place) for place in places] == before


def refused(lab: Lab, status: int, *args: str) -> str:
    """Run a command that must be refused; its one line."""
    done = gwms_bosco(lab, *args, check=False)
    assert done.returncode == status, done
    (line,) = done.stderr.splitlines()
    assert "Traceback" not in line
    return line


def deploy_refused(lab: Lab, site: LabSite, status: int = REMOTE, key: str = "pilot") -> str:
    """Deploy must fail; the site file is taken away again."""
    add_site(lab, site.name, site.text(lab))
    try:
        with unchanged(
            lab,
            site.host if site.host in ("login", "login-old") else "login",
            "/home" if site.host == "login-old" else "/shared",
        ):
            return refused(lab, status, "remote", "deploy", site.name, "--key", key_of(key))
    finally:
        site.remove(lab)


def test_host_key_that_is_not_pinned(lab: Lab) -> None:
    line = deploy_refused(lab, LabSite("badkey", host_keys=host_keys(lab, "outside")))
    assert "host key" in line
    assert "gwms-bosco site hostkeys login" in line


def test_unreachable_host(lab: Lab) -> None:
    line = deploy_refused(lab, LabSite("nohost", host="10.77.0.99", host_keys=host_keys(lab, "login")))
    assert "10.77.0.99:22 cannot be reached" in line


def test_unknown_host_name(lab: Lab) -> None:
    line = deploy_refused(lab, LabSite("noname", host="nowhere.example.org", host_keys=host_keys(lab, "login")))
    assert "nowhere.example.org" in line


def test_closed_port(lab: Lab) -> None:
    assert "pilot@login:2222 refuses the connection" in deploy_refused(lab, LabSite("noport", port=2222))


def test_unknown_user(lab: Lab) -> None:
    line = deploy_refused(lab, LabSite("nouser", user="nobody2"))
    assert "nobody2@login:22 does not accept the key" in line


def test_key_of_another_account(lab: Lab) -> None:
    assert "pilot@login:22 does not accept the key" in deploy_refused(lab, LabSite("nokey"), key="pilot2")


def test_login_node_that_is_too_old(lab: Lab) -> None:
    lab.ensure("login-old")
    line = deploy_refused(lab, LabSite("old", host="login-old"))
    assert "2.36" in line
    assert "2.38" in line


@pytest.mark.parametrize(("name", "options"), [("full", "size=1m,mode=755"), ("readonly", "size=64m,mode=755,ro")])
def test_remote_storage_that_takes_nothing(lab: Lab, name: str, options: str) -> None:
    folder = f"/shared/pilot/bosco-{name}"
    lab.run("login", ["mkdir", folder], user="pilot")
    lab.run("login", ["mount", "-t", "tmpfs", "-o", f"{options},uid=2001,gid=2001", "tmpfs", folder])
    try:
        line = deploy_refused(lab, LabSite(name))
        assert folder in line
        assert ("space" if name == "full" else "read-only") in line.lower()
    finally:
        lab.run("login", ["umount", folder])


def test_htcondor_source_without_blahpd(lab: Lab) -> None:
    line = deploy_refused(lab, LabSite("noblahpd", install={"htcondor": {"root": "/var"}}), REFUSED)
    assert "/var" in line


def test_tarball_with_another_sha256(lab: Lab) -> None:
    lab.run("factory", ["sh", "-c", "echo x > /home/factory/condor.tar.gz"], user=USER)
    source = {"tarball": "/home/factory/condor.tar.gz", "sha256": "0" * 64}
    line = deploy_refused(lab, LabSite("badsum", install={"htcondor": source}), REFUSED)
    assert "sha256" in line


def test_bad_site_file_stops_every_command(lab: Lab) -> None:
    lab.write_file("factory", f"{SITES}/broken.yaml", "site: x\nlogin: [\n")
    try:
        with unchanged(lab):
            for verb in (
                ["site", "check", "broken"],
                ["entry", "render", "broken"],
                ["bundle", "build", "broken"],
                ["remote", "deploy", "broken"],
                ["remote", "test", "broken"],
            ):
                done = gwms_bosco(lab, *verb, check=False)
                assert done.returncode == REFUSED
                assert done.stderr.startswith(f"{SITES}/broken.yaml:3: error: not valid YAML")
    finally:
        lab.run("factory", ["rm", f"{SITES}/broken.yaml"])


def test_site_that_does_not_exist_is_a_usage_error(lab: Lab) -> None:
    assert "no site 'nosuch'" in refused(lab, USAGE, "remote", "deploy", "nosuch")


def test_dry_run_changes_nothing(lab: Lab) -> None:
    site = LabSite("dry")
    site.add(lab)
    with unchanged(lab):
        assert site.deploy(lab, "--dry-run")["action"] == "would-install"


def bulky_htcondor(lab: Lab) -> str:
    """Copy the factory's HTCondor and let one script of it grow by some MB, so that there is a transfer to cut."""
    root = "/opt/bulky"
    patterns = (
        "usr/bin/blahpd usr/sbin/condor_ft-gahp usr/libexec/blahp usr/lib/libcondor_utils* usr/lib/libclassad* etc/bla*"
    )
    grow = "head -c 6000000 /dev/urandom | base64 -w 1000 | sed 's/^/# /' >> usr/libexec/blahp/slurm_hold.sh"
    script = f"mkdir -p {root} && cd / && cp -a --parents {patterns} {root} && cd {root} && {grow} && chmod -R a+rX ."
    lab.run("factory", ["sh", "-c", script])
    return root


def test_connection_killed_during_deploy_leaves_the_old_version_working(lab: Lab) -> None:
    site = LabSite("cut")
    site.add(lab)
    old = site.deploy(lab)["digest"]
    newer = LabSite("cut", install={"htcondor": {"root": bulky_htcondor(lab)}})
    newer.add(lab)
    folder = "/shared/pilot/bosco-cut"
    watch = f"until ls -d {folder}/versions/.staging-* 2>/dev/null; do :; done; pkill -KILL -u pilot sshd-session"
    with lab.popen("login", ["timeout", "180", "sh", "-c", watch], stdout=subprocess.PIPE) as killer:
        done = gwms_bosco(lab, "remote", "deploy", "cut", "--key", key_of("pilot"), check=False)
        seen, _ = killer.communicate(timeout=200)
    assert ".staging-" in seen
    assert done.returncode == REMOTE
    assert len(done.stderr.splitlines()) == 1
    assert lab.run("login", ["readlink", f"{folder}/glite"]).stdout.strip() == f"versions/{old}"
    assert site.test(lab)["passed"]
    report = newer.deploy(lab)
    assert report["action"] == "installed"
    assert report["previous_digest"] == old
    # A gahp of the test before would still use the old version, and the result would say so.
    await_no_gahp(lab)
    result = newer.test(lab)
    assert result["passed"]
    assert result["jobs"][0]["version"] == report["digest"]


def test_json_output_of_a_refused_check_names_every_problem(lab: Lab) -> None:
    lab.write_file("factory", f"{SITES}/broken.yaml", "site: x\nsytem: y\n")
    try:
        done = gwms_bosco(lab, "site", "check", "broken", "--json", check=False)
        result = json.loads(done.stdout)
        assert not result["ok"]
        assert {problem["field"] for problem in result["problems"]} > {"sytem", "login", "entries"}
    finally:
        lab.run("factory", ["rm", f"{SITES}/broken.yaml"])
