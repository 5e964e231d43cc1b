# SPDX-License-Identifier: Apache-2.0
"""egress.conf, known_hosts and the options of the tunnel's key: the exact text for each kind of egress proxy."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.egress.conf import (
    authorized_key_options,
    bundle_files,
    egress_conf,
    egress_key_options,
    known_hosts,
)
from glideinwms_bosco.errors import EgressError
from glideinwms_bosco.site.job_wrapper import cvmfs_is_before, needs_job_wrapper, pilot_rungs, wrapper_rungs
from glideinwms_bosco.site.model import SiteDescription
from tests.unit.network_text import EGRESS, PILOT_IMAGE, SHA256, SSH_EGRESS, closed_site
from tests.unit.site_text import HOST_KEY, changed_site

LIBRARIES = Path(__file__).parents[2] / "validation_scripts" / "lib"
AUTH = "tunnel: {auth: hostbased}"
PRELOAD = (
    "/usr/lib64/libproxychains4.so,/usr/lib/libproxychains4.so,"
    "/usr/lib/x86_64-linux-gnu/libproxychains.so.4,/usr/lib/aarch64-linux-gnu/libproxychains.so.4"
)
HTTP_CONNECT = f"""\
KIND=http-connect
EGRESS_HOST=egress.example.org
EGRESS_PORT=80
EGRESS_USER=
LOGIN_HOSTS=10.77.1.1,login2
LOGIN_PORT=22
AUTH=hostbased
KEY=
FORWARDS=pool=192.0.2.10:9618,squid=192.0.2.11:3128
WEB_PROXY=egress
DNS=False
LOCALNETS=127.0.0.0/8,10.77.1.0/24
CONNECT_MS=8000
READ_MS=15000
PRELOAD={PRELOAD}
PAYLOADS=True
MAX_DOWN_S=300
CONTAINER=none
IMAGE=
IMAGE_SHA256=
CVMFSEXEC=
CVMFS_REPOS=
CVMFS_RUNGS=
CVMFS_CACHE=
CVMFS_QUOTA_MB=
CVMFS_REQUIRED=False
BOSCO_DIR=bosco
SITE=T3_XX_Test
CA=
"""
CVMFS = "cvmfs: {repositories: [a.b, c.d], cache: 'local:/scratch', quota_mb: 9000}"
DISTRIBUTION = ("  web_proxy: egress\n", "  web_proxy: egress\n  cvmfsexec: /project/cvmfsexec\n")


def conf(site: SiteDescription) -> dict[str, str]:
    text = egress_conf(site)
    rows = [line.partition("=") for line in text.splitlines()]
    assert text.count("\n") == len(rows) == len({key for key, _, _ in rows})
    return {key: value for key, _, value in rows}


def test_http_connect_with_all_defaults(tmp_path: Path) -> None:
    assert egress_conf(closed_site(tmp_path)) == HTTP_CONNECT


def test_socks5_with_a_key_that_is_made_on_the_site(tmp_path: Path) -> None:
    site = closed_site(
        tmp_path,
        ("kind: http-connect", "kind: socks5"),
        ("web_proxy: egress", "web_proxy: squid"),
        (AUTH, "tunnel: {auth: site-key, accept_key_on_site: true, max_down_s: 60}"),
        ("entries:\n", "install: {bosco_dir: work/bosco-cms}\nentries:\n"),
    )
    expected = HTTP_CONNECT
    for old, new in (
        ("KIND=http-connect", "KIND=socks5"),
        ("AUTH=hostbased\nKEY=", "AUTH=site-key\nKEY=work/bosco-cms/egress/id_ed25519"),
        ("WEB_PROXY=egress", "WEB_PROXY=squid"),
        ("MAX_DOWN_S=300", "MAX_DOWN_S=60"),
        ("BOSCO_DIR=bosco", "BOSCO_DIR=work/bosco-cms"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert egress_conf(site) == expected


def test_ssh_with_an_existing_key_and_names(tmp_path: Path) -> None:
    site = closed_site(
        tmp_path,
        (EGRESS, SSH_EGRESS),
        ("  web_proxy: egress\n", "  dns: true\n  login_port: 2222\n  payloads: false\n  web_proxy: squid\n"),
        (AUTH, "tunnel: {auth: existing, existing_key: .ssh/id_cluster}"),
        ("192.0.2.10", "pool.example.org"),
    )
    expected = HTTP_CONNECT
    for old, new in (
        ("KIND=http-connect", "KIND=ssh"),
        ("EGRESS_PORT=80\nEGRESS_USER=", "EGRESS_PORT=443\nEGRESS_USER=cms"),
        ("LOGIN_PORT=22", "LOGIN_PORT=2222"),
        ("AUTH=hostbased\nKEY=", "AUTH=existing\nKEY=.ssh/id_cluster"),
        ("pool=192.0.2.10", "pool=pool.example.org"),
        ("WEB_PROXY=egress\nDNS=False", "WEB_PROXY=squid\nDNS=True"),
        ("PAYLOADS=True", "PAYLOADS=False"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert egress_conf(site) == expected


def test_container_of_the_whole_pilot_with_cvmfs_before_it(tmp_path: Path) -> None:
    runtime = f"runtime: {{{CVMFS}, {PILOT_IMAGE}, credentials: {{ca: [cvmfs, node]}}}}\n"
    site = closed_site(tmp_path, DISTRIBUTION, runtime=runtime)
    found = conf(site)
    assert {key: found[key] for key in found if key.startswith(("CVMFS", "CONT", "IM", "CA"))} == {
        "CONTAINER": "pilot",
        "IMAGE": "/project/cms.sif",
        "IMAGE_SHA256": SHA256,
        "CVMFSEXEC": "/project/cvmfsexec",
        "CVMFS_REPOS": "a.b,c.d",
        "CVMFS_RUNGS": "native,userns,fusermount,mountrepo",
        "CVMFS_CACHE": "local:/scratch",
        "CVMFS_QUOTA_MB": "9000",
        "CVMFS_REQUIRED": "True",
        "CA": "cvmfs,node",
    }
    assert cvmfs_is_before(site)
    assert pilot_rungs(site) == ("native",)


def test_without_a_distribution_on_the_site_the_pilot_may_have_a_way_of_its_own(tmp_path: Path) -> None:
    cvmfs = "cvmfs: {repositories: [a.b], cvmfsexec: {path: /srv/dist}}"
    site = closed_site(tmp_path, runtime=f"runtime: {{{cvmfs}, {PILOT_IMAGE}}}\n")
    found = conf(site)
    assert (found["CVMFSEXEC"], found["CVMFS_RUNGS"], found["CVMFS_REQUIRED"]) == ("", "native", "False")
    assert pilot_rungs(site) == ("native", "userns", "fusermount", "container")
    alone = closed_site(tmp_path, runtime=f"runtime: {{{CVMFS}, {PILOT_IMAGE}}}\n")
    assert conf(alone)["CVMFS_REQUIRED"] == "True"


def test_only_rungs_that_can_stand_before_a_container_are_tried_there(tmp_path: Path) -> None:
    cvmfs = "cvmfs: {repositories: [a.b], parrot: /p, rungs: [mountrepo, native, parrot]}"
    site = closed_site(tmp_path, DISTRIBUTION, runtime=f"runtime: {{{cvmfs}, {PILOT_IMAGE}}}\n")
    assert wrapper_rungs(site) == ("mountrepo", "native")


def test_container_of_payloads_is_no_matter_of_the_job_wrapper(tmp_path: Path) -> None:
    payload = PILOT_IMAGE.replace("mode: pilot", "mode: payload")
    not_chained = ("web_proxy: egress", "web_proxy: egress\n  payloads: false")
    found = conf(closed_site(tmp_path, not_chained, runtime=f"runtime: {{{CVMFS}, {payload}}}\n"))
    assert (found["CONTAINER"], found["IMAGE"], found["CVMFS_REPOS"], found["CVMFS_RUNGS"]) == ("none", "", "", "")


def test_container_without_a_tunnel(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "entries:\n", f"runtime: {{{PILOT_IMAGE}}}\nentries:\n")
    found = conf(site)
    assert list(found) == list(dict(line.split("=", 1) for line in HTTP_CONNECT.splitlines()))
    assert (found["KIND"], found["CONTAINER"], found["FORWARDS"]) == ("none", "pilot", "")
    assert known_hosts(site) == ""


@pytest.mark.parametrize("kind", ["http-connect", "socks5", "ssh", "none"])
def test_node_reads_every_key_of_it(tmp_path: Path, kind: str) -> None:
    """By the library of the job wrapper; a key it does not know would be passed over in silence."""
    runtime = f"runtime: {{{CVMFS}, {PILOT_IMAGE}, credentials: {{}}}}\n"
    if kind == "none":
        site = changed_site(tmp_path, "entries:\n", f"{runtime}entries:\n")
    else:
        egress = SSH_EGRESS if kind == "ssh" else EGRESS.replace("http-connect", kind)
        key = "tunnel: {auth: existing, existing_key: .ssh/id}"
        site = closed_site(
            tmp_path, (EGRESS, egress), (AUTH, key), ("web_proxy: egress", "web_proxy: squid"), runtime=runtime
        )
    (tmp_path / "egress.conf").write_text(egress_conf(site), encoding="ascii")
    program = 'set -u; . "$1/report.sh"; . "$1/egress_conf.sh"; gwms_bosco_egress_values "$2"'
    done = subprocess.run(
        ["bash", "-c", program, "read", str(LIBRARIES), str(tmp_path / "egress.conf")],
        capture_output=True,
        timeout=30,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == egress_conf(site)


@pytest.mark.parametrize("name", ["a b", "a..b", "a$b"])
def test_value_that_the_node_would_not_read_is_refused(tmp_path: Path, name: str) -> None:
    site = dataclasses.replace(closed_site(tmp_path), name=name)
    with pytest.raises(EgressError, match="SITE of egress"):
        egress_conf(site)


# known_hosts and keys


def test_known_hosts_name_login_nodes_and_an_egress_proxy_of_kind_ssh(tmp_path: Path) -> None:
    assert known_hosts(closed_site(tmp_path)) == f"10.77.1.1,login2 {HOST_KEY}\n"
    ssh = closed_site(
        tmp_path,
        (EGRESS, SSH_EGRESS),
        (AUTH, "tunnel: {auth: existing, existing_key: a}"),
        ("  web_proxy: egress\n", "  web_proxy: squid\n  login_port: 2222\n"),
    )
    assert known_hosts(ssh) == (f"[10.77.1.1]:2222,[login2]:2222 {HOST_KEY}\n[egress.example.org]:443 {HOST_KEY}\n")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
@pytest.mark.parametrize(("port", "name"), [("22", "login2"), ("2222", "[login2]:2222")])
def test_ssh_finds_each_login_node_in_it(tmp_path: Path, port: str, name: str) -> None:
    site = closed_site(tmp_path, ("  web_proxy: egress\n", f"  web_proxy: egress\n  login_port: {port}\n"))
    (tmp_path / "known_hosts").write_text(known_hosts(site), encoding="ascii")
    done = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", str(tmp_path / "known_hosts")],
        capture_output=True,
        timeout=30,
        check=False,
        text=True,
    )
    assert done.returncode == 0
    assert HOST_KEY in done.stdout


def test_key_opens_the_egress_proxy_only_and_only_from_the_workers(tmp_path: Path) -> None:
    site = closed_site(tmp_path, ("[10.77.1.0/24]", "[10.77.1.0/24, 10.78.0.0/16]"))
    assert authorized_key_options(site) == (
        'restrict,port-forwarding,command="/bin/false",from="10.77.1.0/24,10.78.0.0/16",'
        'permitopen="egress.example.org:80",permitlisten="127.0.0.1:1"'
    )
    assert egress_key_options(site) == (
        'restrict,port-forwarding,command="/bin/false",from="203.0.113.0/28",'
        'permitopen="192.0.2.10:9618",permitopen="192.0.2.11:3128",permitlisten="127.0.0.1:1"'
    )


def test_key_from_anywhere_is_refused(tmp_path: Path) -> None:
    site = closed_site(tmp_path, ("  workers: [10.77.1.0/24]\n", ""), ("  exit_addresses: [203.0.113.0/28]\n", ""))
    for options in (authorized_key_options, egress_key_options):
        with pytest.raises(EgressError, match="could be used from anywhere"):
            options(site)
        with pytest.raises(EgressError, match="has no network block"):
            options(changed_site(tmp_path))


# The files of a bundle


def test_bundle_gets_the_wrapper_and_what_it_reads(tmp_path: Path) -> None:
    site = closed_site(tmp_path)
    assert [(file.path, file.content, file.mode) for file in bundle_files(site, b"#!/bin/bash\n")] == [
        ("egress/egress.conf", HTTP_CONNECT.encode(), 0o644),
        ("egress/job_wrapper", b"#!/bin/bash\n", 0o755),
        ("egress/known_hosts", f"10.77.1.1,login2 {HOST_KEY}\n".encode(), 0o644),
    ]


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        (("cpus: 8", "cpus: 8"), False),
        (("entries:\n", f"runtime: {{{PILOT_IMAGE}}}\nentries:\n"), True),
        (("entries:\n", f"runtime: {{{PILOT_IMAGE.replace('mode: pilot', 'mode: payload')}}}\nentries:\n"), False),
    ],
)
def test_bundle_of_another_site_gets_them_only_for_a_container_of_the_whole_pilot(
    tmp_path: Path, changes: tuple[str, str], needed: bool
) -> None:
    site = changed_site(tmp_path, *changes)
    assert needs_job_wrapper(site) is needed
    assert bool(bundle_files(site, b"#!/bin/bash\n")) is needed
    condor = dataclasses.replace(site, batch=dataclasses.replace(site.batch, system="condor"))
    assert not needs_job_wrapper(condor)
    assert bundle_files(condor, b"") == ()
