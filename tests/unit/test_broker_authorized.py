# SPDX-License-Identifier: Apache-2.0
"""The line for authorized_keys, in a real sshd, and the gate that it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.broker.authorized import ca_lines, gate_script, key_lines, login_addresses, without_addresses
from glideinwms_bosco.broker.policy import Policy
from glideinwms_bosco.errors import BrokerError, PolicyFileError
from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.free_port import free_port
from tests.unit.broker_text import ENTRY, HOST, as_policy, changed, policy_data, signer
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

KEY = signer("user").public
DIR = "bosco-cms"
GLITE = f"~/{DIR}/glite"
REFUSED_STATUS = 126

# What HTCondor 23.9.6 and 25.14.1 send, letter by letter (remote_gahp with an ssh that prints its arguments).
BLAHPD = f"/bin/bash -l -c 'BLAHPD_LOCATION={GLITE} GLITE_LOCATION={GLITE} {GLITE}/bin/blahpd '"
FT_GAHP = (
    "/bin/bash -l -c 'echo Allocated port 58030 for remote forward to 1>&2 ; "
    f"CONDOR_CONFIG={GLITE}/etc/condor_config.ft-gahp {GLITE}/bin/condor_ft-gahp -f '"
)
SHELLS = ["sh", "dash", "bash", "busybox"]


def gated(gate: Any = DIR, **factory: Any) -> Policy:
    data = changed("handles", ENTRY, "gate", value=gate)
    data["handles"][ENTRY]["maintain"] = False
    data["factories"]["osg"].update(factory)
    return as_policy(data)


def line(policy: Policy) -> str:
    (only,) = key_lines(policy, policy.entries[ENTRY], KEY)
    return only


def install(home: Path) -> None:
    """An account with the gate and two programs that say how they were started."""
    (home / "bin").mkdir(exist_ok=True)
    (home / "bin" / "gwms-gate").write_bytes(gate_script())
    (home / "bin" / "gwms-gate").chmod(0o755)
    programs = home / DIR / "glite" / "bin"
    programs.mkdir(parents=True)
    for name in ("blahpd", "condor_ft-gahp"):
        (programs / name).write_text(
            f'#!/bin/sh\necho "{name} [$*] [${{BLAHPD_LOCATION:-}}] [${{GLITE_LOCATION:-}}] [${{CONDOR_CONFIG:-}}]"\n'
        )
        (programs / name).chmod(0o755)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    install(home)
    return home


def gate(home: Path, asked: str, *args: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    argv = [program, *(["sh"] if shell == "busybox" else []), str(home / "bin" / "gwms-gate"), *(args or (DIR,))]
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "SSH_ORIGINAL_COMMAND": asked}
    return subprocess.run(argv, env=env, text=True, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_gate_starts_blahpd(shell: str, home: Path) -> None:
    done = gate(home, BLAHPD, shell=shell)
    glite = f"{home}/{DIR}/glite"
    assert (done.returncode, done.stdout) == (0, f"blahpd [] [{glite}] [{glite}] []\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_gate_starts_the_ft_gahp_and_tells_the_port(shell: str, home: Path) -> None:
    done = gate(home, FT_GAHP, shell=shell)
    config = f"{home}/{DIR}/glite/etc/condor_config.ft-gahp"
    assert (done.returncode, done.stdout) == (0, f"condor_ft-gahp [-f] [] [] [{config}]\n")
    assert "Allocated port 58030 for remote forward to" in done.stderr


OTHER_COMMANDS = {
    "a shell": "",
    "a command": "id -un",
    "sftp": "/usr/lib/openssh/sftp-server",
    "scp": "scp -t /tmp",
    "another bosco_dir": BLAHPD.replace(DIR, "bosco"),
    "another program": BLAHPD.replace("bin/blahpd", "bin/other"),
    "any command of 25.14": BLAHPD.replace(f"{GLITE}/bin/blahpd ", "id "),
    "something behind": BLAHPD + "; id",
    "something on the next line": BLAHPD + "\nid",
    "something in front": "id; " + BLAHPD,
    "an argument": BLAHPD.replace("blahpd '", "blahpd -x'"),
    "a quote inside": BLAHPD.replace("blahpd '", "blahpd ' id '"),
    "no login shell": BLAHPD.replace(" -l", ""),
    "an option of bash": BLAHPD.replace(" -l", " -l -x"),
    "blanks": BLAHPD.replace(" -c ", "  -c "),
    "no port": FT_GAHP.replace("58030", ""),
    "a command as port": FT_GAHP.replace("58030", "$(id>&2)"),
    "a port and a command": FT_GAHP.replace("58030", "58030;id"),
    "a port of six digits": FT_GAHP.replace("58030", "580300"),
    "a port with a line break": FT_GAHP.replace("58030", "58030\nid #"),
    "a negative port": FT_GAHP.replace("58030", "-1"),
    "two ports": FT_GAHP.replace("58030", "1 2"),
    "a pattern": FT_GAHP.replace("58030", "*"),
    "the begin only": FT_GAHP[:45],
    "the ft-gahp with an argument": FT_GAHP.replace("-f '", "-f x'"),
    "another configuration": FT_GAHP.replace("etc/condor_config.ft-gahp", "../x"),
}


@pytest.mark.parametrize("shell", ["dash", "busybox"])
@pytest.mark.parametrize("name", OTHER_COMMANDS)
def test_the_gate_refuses(name: str, shell: str, home: Path) -> None:
    asked = OTHER_COMMANDS[name]
    assert asked not in (BLAHPD, FT_GAHP)
    done = gate(home, asked, shell=shell)
    assert (done.returncode, done.stdout) == (REFUSED_STATUS, "")
    assert done.stderr.startswith("gwms-gate: ") and "uid=" not in done.stderr


@pytest.mark.parametrize("args", [("",), ("../x",), ("a/../b",), ("/abs",), ("a b",), ("a;id",), ("a", "b"), ("-x/.",)])
def test_the_gate_refuses_a_bosco_dir_that_is_none(args: tuple[str, ...], home: Path) -> None:
    done = gate(home, BLAHPD, *args)
    assert (done.returncode, done.stdout) == (REFUSED_STATUS, "")
    assert "bosco_dir" in done.stderr


def test_the_gate_passes_shellcheck(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    (tmp_path / "gwms-gate").write_bytes(gate_script())
    done = subprocess.run(["shellcheck", str(tmp_path / "gwms-gate")], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_line_says_all_that_the_site_should_check() -> None:
    assert line(gated()) == (
        'restrict,port-forwarding,permitopen="127.0.0.1:1",permitlisten="localhost:*",'
        f'command="~/bin/gwms-gate {DIR}",from="192.0.2.10/32" {KEY.authorized} gwms-ssh-broker:{ENTRY}:submit'
    )


def test_a_key_for_maintenance_alone_forwards_nothing() -> None:
    policy = as_policy(changed("handles", ENTRY, "submit", value=False))
    assert line(policy).startswith('restrict,from="192.0.2.10/32" ssh-ed25519 ')


def test_names_no_addresses_when_those_of_one_factory_are_unknown() -> None:
    data = policy_data()
    data["handles"][ENTRY]["factories"] = ["osg", "cern"]
    policy = as_policy(data)
    assert "from=" not in line(policy)
    assert without_addresses(policy, policy.entries[ENTRY]) == ("cern",)


def test_the_line_of_a_ca_names_the_principals() -> None:
    data = policy_data()
    ca = {"backend": "ssh-agent", "file": "/ca"}
    data["handles"][ENTRY]["cert"] = {"mode": "cert+sign", "ca": ca, "principals": ["a", "b"]}
    policy = as_policy(data)
    (text,) = ca_lines(policy, policy.entries[ENTRY], KEY)
    assert 'cert-authority,principals="a,b",from="192.0.2.10/32" ssh-ed25519' in text
    with pytest.raises(BrokerError, match="no certificates"):
        ca_lines(as_policy(policy_data()), as_policy(policy_data()).entries[ENTRY], KEY)


def behind_jump(**host: Any) -> Policy:
    """The entry's first host is the jump host to a second one, which differs from a valid one by `host`."""
    data = policy_data()
    data["handles"][ENTRY]["maintain"] = False
    first = data["handles"][ENTRY]["hosts"][0]
    second = {**first, "name": "inner.example.edu", "via": ["10.0.0.1/32"], **host}
    data["handles"][ENTRY]["hosts"] = [{**first, "jump_to": ["inner.example.edu:22"]}, second]
    return as_policy(data)


def test_a_jump_host_and_the_host_behind_it_have_lines_of_their_own() -> None:
    policy = behind_jump()
    jump, inner = key_lines(policy, policy.entries[ENTRY], KEY)
    assert jump == (
        'restrict,port-forwarding,permitopen="inner.example.edu:22",permitlisten="localhost:1",command="false",'
        f'from="192.0.2.10/32" {KEY.authorized} gwms-ssh-broker:{ENTRY}:submit:{HOST}'
    )
    assert inner == (
        'restrict,port-forwarding,permitopen="127.0.0.1:1",permitlisten="localhost:*",'
        f'from="10.0.0.1/32" {KEY.authorized} gwms-ssh-broker:{ENTRY}:submit:inner.example.edu'
    )


def test_a_certificate_is_good_from_the_jump_host_too() -> None:
    policy = behind_jump()
    assert login_addresses(policy.entries[ENTRY], policy.factories["osg"]) == ("192.0.2.10/32", "10.0.0.1/32")


def test_hosts_that_need_the_same_share_a_line() -> None:
    data = policy_data()
    first = data["handles"][ENTRY]["hosts"][0]
    data["handles"][ENTRY]["hosts"] = [first, {**first, "name": "second.example.edu"}]
    assert line(as_policy(data)).endswith(f"gwms-ssh-broker:{ENTRY}:submit+maintain")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"via": ["10.0.0.300"]}, r"hosts\[1\]\.via\[0\]: is no network"),
        ({"via": []}, "via"),
        ({"jump_to": ["inner"]}, "jump_to"),
        ({"jump_to": ['inner:22",command="id']}, "jump_to"),
        ({"jump_to": ["inner:65536"]}, "the port is above 65535"),
        ({"via": ['10.0.0.1",command="id']}, "is no network"),
    ],
)
def test_refuses_a_jump_that_cannot_be_written_into_a_line(host: dict[str, Any], words: str) -> None:
    with pytest.raises(PolicyFileError, match=words):
        behind_jump(**host)


class Site:
    """A real sshd whose account lets our key in by the given line."""

    def __init__(self, daemon: LoopbackSshd) -> None:
        self.daemon = daemon
        install(daemon.home)

    def let_in(self, policy: Policy) -> None:
        public = parse_authorized(self.daemon.key_file.with_suffix(".pub").read_text(encoding="ascii"))
        text = "".join(f"{line}\n" for line in key_lines(policy, policy.entries[ENTRY], public))
        (self.daemon.directory / "authorized_keys").write_text(text, encoding="ascii")

    def ssh(self, *args: str) -> subprocess.CompletedProcess[str]:
        options = (
            "BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
            "ExitOnForwardFailure=yes", "LogLevel=ERROR", "IdentityAgent=none",
        )  # fmt: skip
        argv = ["ssh", "-F", "none", "-i", str(self.daemon.key_file), "-p", str(self.daemon.port)]
        argv += [part for option in options for part in ("-o", option)]
        argv += [*args[:-1], f"{self.daemon.user}@127.0.0.1", *args[-1:]]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=30, check=False)


HERE = {"source_addresses": ["127.0.0.1/32"]}


def test_a_real_sshd_takes_the_line_and_starts_the_gate(loopback_sshd: LoopbackSshd) -> None:
    site = Site(loopback_sshd)
    site.let_in(gated(**HERE))
    started = site.ssh("-R", f"{free_port()}:127.0.0.1:9", FT_GAHP)
    assert started.stdout.startswith("condor_ft-gahp [-f]"), started.stderr
    assert site.ssh(BLAHPD).stdout.startswith("blahpd ")
    refused = site.ssh("id -un")
    assert (refused.returncode, refused.stdout) == (REFUSED_STATUS, "")
    assert "and nothing else" in refused.stderr


def test_a_real_sshd_forwards_nothing_else_and_lets_nobody_else_in(loopback_sshd: LoopbackSshd) -> None:
    site = Site(loopback_sshd)
    site.let_in(gated(gate=None, **HERE))
    assert site.ssh("echo in").stdout == "in\n"
    forwarded = site.ssh("-W", f"127.0.0.1:{loopback_sshd.port}", "")
    assert "prohibited" in forwarded.stderr or forwarded.returncode != 0
    assert "SSH-2.0" not in forwarded.stdout
    site.let_in(gated(gate=None, source_addresses=["192.0.2.10/32"]))
    assert "Permission denied" in site.ssh("echo in").stderr


def test_a_real_sshd_is_a_jump_host_and_nothing_more(loopback_sshd: LoopbackSshd) -> None:
    site = Site(loopback_sshd)
    data = changed("handles", ENTRY, "maintain", value=False)
    data["factories"]["osg"].update(HERE)
    data["handles"][ENTRY]["hosts"][0]["jump_to"] = [f"127.0.0.1:{loopback_sshd.port}"]
    site.let_in(as_policy(data))
    assert "SSH-2.0" in site.ssh("-W", f"127.0.0.1:{loopback_sshd.port}", "").stdout
    elsewhere = site.ssh("-W", f"localhost:{loopback_sshd.port}", "")
    assert "forwarding failed" in elsewhere.stderr and "SSH-2.0" not in elsewhere.stdout
    assert site.ssh("-R", f"{free_port()}:127.0.0.1:9", "echo in").returncode == 255
    run = site.ssh("echo in")
    assert (run.returncode, run.stdout) == (1, "")


def test_a_real_sshd_lets_in_by_the_jump_hosts_address(loopback_sshd: LoopbackSshd) -> None:
    site = Site(loopback_sshd)
    data = changed("handles", ENTRY, "maintain", value=False)
    data["handles"][ENTRY]["hosts"][0]["via"] = ["127.0.0.1/32"]
    site.let_in(as_policy(data))
    assert site.ssh("echo in").stdout == "in\n"
    assert "Permission denied" in _from_nowhere(site).stderr


def _from_nowhere(site: Site) -> subprocess.CompletedProcess[str]:
    data = changed("handles", ENTRY, "maintain", value=False)
    data["handles"][ENTRY]["hosts"][0]["via"] = ["10.0.0.1/32"]
    site.let_in(as_policy(data))
    return site.ssh("echo in")
