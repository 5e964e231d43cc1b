# SPDX-License-Identifier: Apache-2.0
"""Accounts and sshd of the hosts that are logged in to."""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab.host import Host
from tests.lab.process import wait_for
from tests.lab.settings import KEYS

LOG = "/var/log/sshd.log"
PID_FILE = "/run/sshd.pid"
START_DEADLINE_S = 15.0
# What a factory's key needs on a login node: commands, and the -R that HTCondor's file transfer uses.
KEY_OPTIONS = "restrict,port-forwarding"

_CONFIG = """\
LogLevel VERBOSE
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
# Tests fail logins on purpose; four of them would lock the factory's address out for seconds (sshd >= 9.8).
_NO_PENALTIES = "PerSourcePenalties no\n"


def make_keys(factory: Host) -> dict[str, str]:
    """Make the factory's client keys, new for each lab.

    Returns:
        dict account -> public key line.
    """
    script = 'install -d -m 700 .ssh; for key; do ssh-keygen -q -t ed25519 -N "" -f ".ssh/$key"; done'
    factory.sh(script, *KEYS, user="factory")
    return public_keys(factory)


def public_keys(factory: Host) -> dict[str, str]:
    """Return dict account -> public key line of the factory's keys."""
    return {key: factory.read_file(f"/home/factory/.ssh/{key}.pub") for key in KEYS}


def start(host: Host, keys: Mapping[str, str]) -> None:
    """Make the host's pilot accounts, authorise the factory's keys, start sshd with fresh host keys."""
    for name in host.spec.accounts:
        _authorise(host, name, keys[name])
    config = _CONFIG if host.spec.old_sshd else _CONFIG + _NO_PENALTIES
    host.write_file("/etc/ssh/sshd_config.d/10-lab.conf", config)
    host.sh('ssh-keygen -q -A; /usr/sbin/sshd -E "$1"', LOG)
    # The pid file is written after listen(2).
    wait_for(f"sshd on {host.name}", lambda: host.daemon_runs(PID_FILE), START_DEADLINE_S, lambda: host.read_file(LOG))


def _authorise(host: Host, name: str, public_key: str) -> None:
    """Make a home, local unless the host is on the cluster's shared directory, and authorise one key."""
    if not host.spec.shared:
        host.run(["usermod", "--home", f"/home/{name}", name])
    home = host.account(name).home
    host.make_dirs(home, owner=name)
    host.make_dirs(f"{home}/.ssh", owner=name, mode=0o700)
    host.write_file(f"{home}/.ssh/authorized_keys", f"{KEY_OPTIONS} {public_key}", f"{name}:{name}", 0o600)
