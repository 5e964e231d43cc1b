# SPDX-License-Identifier: Apache-2.0
"""The lab's factory host made ready for measuring, and a meter for the commands that run there.

The command is an installed copy with compiled files: from the checkout, which is mounted read-only, every start would
compile the whole package again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glideinwms_bosco.remote.connection import Connection, Endpoint, render_known_hosts, render_ssh_config
from tests.bench.figures import BenchError, timed
from tests.lab.lab import Lab
from tests.lab.operator import SITES, USER, host_keys, key_of, prepare_factory
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.sites import LabSite

FOLDER = f"/home/{USER}/bench"
COMMAND = f"{FOLDER}/gwms-bosco"
SSH_CONFIG = f"{FOLDER}/ssh_config"
ACCOUNT = "pilot"
SITE = LabSite("bench")
SITE_FILE = f"{SITES}/{SITE.name}.yaml"
BOSCO_DIR = f"bosco-{SITE.name}"
DEADLINE_S = 120.0

_LAUNCHER = """\
#!/bin/sh
export PYTHONPATH={folder}/python
exec /usr/bin/python3 -m glideinwms_bosco.cli.main "$@"
"""
# Without compiled files: in a checkout that is worked in, some are nobody else's to read.
_INSTALL = """
mkdir -p "$1/python"
tar -C "$2" --exclude=__pycache__ -cf "$1/package.tar" glideinwms_bosco
tar -C "$1/python" -xf "$1/package.tar"
python3 -m compileall -q "$1/python"
"""


@dataclass(frozen=True)
class Sample:
    """One measured command.

    Attributes:
        seconds: wall time, entering the host included.
        stdout: what it printed.
        logins: ssh connections that the login host's sshd accepted.
        programs: commands that sshd started for them.
        sent_bytes: what left the factory's network card, ssh and TCP included.
    """

    seconds: float
    stdout: str
    logins: int
    programs: int
    sent_bytes: int


class Workplace:
    """The factory host of a running lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def prepare(self) -> None:
        """Install the command and write the site file and the alternatives' ssh configuration, the product's own.

        Raises:
            LabError: a command failed.
        """
        prepare_factory(self.lab)
        self.lab.run("factory", ["sh", "-euc", _INSTALL, "sh", FOLDER, CHECKOUT_IN_HOST], user=USER)
        self.lab.write_file("factory", COMMAND, _LAUNCHER.format(folder=FOLDER), f"{USER}:{USER}", 0o755)
        SITE.add(self.lab)
        login = Endpoint(SITE.host, SITE.port, ACCOUNT, tuple(host_keys(self.lab, SITE.host)))
        known_hosts = Path(FOLDER, "known_hosts")
        config = render_ssh_config(Connection(login, key_file=Path(key_of(ACCOUNT))), known_hosts)
        self.lab.write_file("factory", str(known_hosts), render_known_hosts([login]))
        self.lab.write_file("factory", SSH_CONFIG, config)

    def measure(self, argv: Sequence[str]) -> Sample:
        """Run a command in the factory as the schedd's user and measure it.

        Raises:
            LabError: it failed, or is not done in time.
        """
        before = self._counters()
        seconds, done = timed(lambda: self.lab.run("factory", argv, user=USER, timeout=DEADLINE_S))
        logins, programs, sent = (after - was for after, was in zip(self._counters(), before))
        return Sample(seconds, done.stdout, logins, programs, sent)

    def _counters(self) -> tuple[int, int, int]:
        log = self.lab.read_file("login", "/var/log/sshd.log")
        # Source: proc(5), /proc/net/dev: the ninth number of an interface is the bytes it has sent.
        card = re.search(r"^\s*eth0:((?:\s+[0-9]+)+)", self.lab.read_file("factory", "/proc/net/dev"), re.MULTILINE)
        if card is None:
            raise BenchError("the factory has no network card eth0")
        sent = int(card[1].split()[8])
        return log.count("Accepted publickey for "), log.count("Starting session: command for "), sent

    def empty_account(self, folder: str) -> None:
        """Remove a folder from the account's home, so that the account is as new."""
        self.lab.run("login", ["rm", "-rf", folder], user=ACCOUNT)
