# SPDX-License-Identifier: Apache-2.0
"""What a factory operator does on the lab's factory host: folders, site files with pinned keys, the command."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.lab.lab import Lab

USER = "factory"
"""The schedd's user; gwms-bosco runs as it."""
SITES = "/etc/gwms-bosco/sites.d"
CONFIG_D = "/etc/gwms-factory/config.d"
STATE = "/var/lib/gwms-bosco"


def prepare_factory(lab: Lab) -> None:
    """Make the folders that the packages make on a real host, and have the schedd's user read our ssh configuration."""
    lab.run("factory", ["install", "-d", "-m", "0755", SITES])
    lab.run("factory", ["install", "-d", "-o", USER, "-g", USER, "-m", "0755", CONFIG_D])
    lab.run("factory", ["install", "-d", "-o", USER, "-g", USER, "-m", "0750", STATE])
    lab.write_file("factory", f"/home/{USER}/.ssh/config", f"Include {STATE}/ssh/config\n", USER, 0o600)


def host_keys(lab: Lab, host: str) -> list[str]:
    """The public host keys of a lab host, read on its disk: the way that needs no trust in the network."""
    text = lab.run(host, ["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).stdout
    return [" ".join(line.split()[:2]) for line in text.splitlines()]


def pin(site_file: str, keys: Sequence[str]) -> str:
    """Put host keys in place of the one empty `host_keys: []` of a site file."""
    if site_file.count("host_keys: []") != 1:
        raise ValueError("the site file has no single `host_keys: []`")
    return site_file.replace("host_keys: []", f"host_keys: [{', '.join(keys)}]")


def add_site(lab: Lab, name: str, site_file: str) -> None:
    """Put a site file where the factory finds it."""
    lab.write_file("factory", f"{SITES}/{name}.yaml", site_file, "root", 0o644)


def key_of(account: str) -> str:
    """Path of an account's private key on the factory."""
    return f"/home/{USER}/.ssh/{account}"


def gwms_bosco(lab: Lab, *args: str, timeout: float = 360.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run gwms-bosco on the factory as the schedd's user."""
    return lab.run("factory", ["gwms-bosco", *args], user=USER, timeout=timeout, check=check)
