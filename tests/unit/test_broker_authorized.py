# SPDX-License-Identifier: Apache-2.0
"""The line for authorized_keys, in a real sshd, and the gate that it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.broker.authorized import ca_line, gate_script, key_line, without_addresses
from glideinwms_bosco.broker.policy import Policy
from glideinwms_bosco.errors import BrokerError
from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.unit.broker_text import ENTRY, as_policy, changed, policy_data, signer
from tests.unit.sshd_fixture import LoopbackSshd, free_port, loopback_sshd

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
    return key_line(policy, policy.entries[ENTRY], KEY)


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
    text = ca_line(policy, policy.entries[ENTRY], KEY)
    assert 'cert-authority,principals="a,b",from="192.0.2.10/32" ssh-ed25519' in text
    with pytest.raises(BrokerError, match="no certificates"):
        ca_line(as_policy(policy_data()), as_policy(policy_data()).entries[ENTRY], KEY)


class Site:
    """A real sshd whose account lets our key in by the given line."""

    def __init__(self, daemon: LoopbackSshd) -> None:
        self.daemon = daemon
        install(daemon.home)

    def let_in(self, policy: Policy) -> None:
        public = parse_authorized(self.daemon.key_file.with_suffix(".pub").read_text(encoding="ascii"))
        text = key_line(policy, policy.entries[ENTRY], public) + "\n"
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
