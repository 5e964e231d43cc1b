# SPDX-License-Identifier: Apache-2.0
"""Check that the ssh of the schedd's user would take the pinned host keys, before a job waits for it in vain."""

from __future__ import annotations

import subprocess
from pathlib import Path

from glideinwms_bosco.errors import ScheddError
from glideinwms_bosco.remote.connection import Endpoint

_TIMEOUT_S = 10


def check_client_configuration(login: Endpoint, ssh_config: Path, known_hosts: Path) -> None:
    """Ask `ssh -G` what remote_gahp's ssh would do, without connecting.

    Raises:
        ScheddError: the configuration written by `remote ssh-config` is not read, or does not know this account.
    """
    argv = ["ssh", "-G", "-p", str(login.port), f"{login.user}@{login.host}"]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
                              check=False)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as err:
        raise ScheddError(f"ssh cannot be run: {err}", "install the OpenSSH client") from None
    options = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    if options.get("userknownhostsfile") != str(known_hosts) or options.get("exitonforwardfailure") != "yes":
        raise ScheddError(
            f"this user's ssh does not use the pinned host keys for {login.label}",
            f"run `gwms-bosco remote ssh-config` and put `Include {ssh_config}` first into ~/.ssh/config",
        )
