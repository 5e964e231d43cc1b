# SPDX-License-Identifier: Apache-2.0
"""Check that the ssh of the schedd's user takes the pinned host keys, before a job waits for it in vain."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from glideinwms_bosco.errors import ScheddError
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.factory_ssh import FactorySsh, render_factory_ssh

_TIMEOUT_S = 10
_WRITE_IT = "run `gwms-bosco remote ssh-config`"


def check_client_configuration(login: Endpoint, jumps: Sequence[Endpoint], ssh_config: Path, known_hosts: Path) -> None:
    """Compare what remote_gahp's ssh would do with the site description, without connecting.

    Raises:
        ScheddError: the files written by `remote ssh-config` are missing, older than the site description, or not
            read by this user's ssh.
    """
    wanted = render_factory_ssh([(login, jumps)], known_hosts)
    _check_files(wanted, login, ssh_config, known_hosts)
    options = _ssh_options(login)
    used = options.get("userknownhostsfile"), options.get("exitonforwardfailure"), options.get("stricthostkeychecking")
    # Newer ssh says `true` where it was told `yes`.
    if used[0] != str(known_hosts) or used[1] != "yes" or used[2] not in ("yes", "true"):
        raise ScheddError(
            f"this user's ssh does not use the pinned host keys for {login.label}",
            f"{_WRITE_IT} and put `Include {ssh_config}` first into ~/.ssh/config",
        )


def _check_files(wanted: FactorySsh, login: Endpoint, ssh_config: Path, known_hosts: Path) -> None:
    """Every host of this way has exactly its pinned keys in known_hosts, and its block in the configuration."""
    try:
        have_keys = set(known_hosts.read_text(encoding="utf-8").splitlines())
        have_config = ssh_config.read_text(encoding="utf-8")
    except OSError as err:
        raise ScheddError(f"{err.filename}: {err.strerror}", _WRITE_IT) from None
    want_keys = set(wanted.known_hosts.splitlines())
    names = {line.split(" ", 1)[0] for line in want_keys}
    revoked = {line for line in have_keys - want_keys if line.split(" ", 1)[0] in names}
    blocks = wanted.ssh_config.split("\n\n")[1:]
    if not want_keys <= have_keys or revoked or any(block.strip() not in have_config for block in blocks):
        raise ScheddError(f"the factory's ssh configuration for {login.label} differs from the site file", _WRITE_IT)


def _ssh_options(login: Endpoint) -> dict[str, str]:
    """What `ssh -G` prints for a call as remote_gahp makes it."""
    argv = ["ssh", "-G", "-p", str(login.port), f"{login.user}@{login.host}"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ScheddError(f"ssh cannot be run: {err}", "install the OpenSSH client") from None
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
