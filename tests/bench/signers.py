# SPDX-License-Identifier: Apache-2.0
"""The two ways to a signature, side by side on this machine: OpenSSH's ssh-agent, and a relay with its broker.

All are processes of their own; relay and broker are the daemons as installed, with TLS between them, and the broker's
keys are in private ssh-agents. A second relay stands behind a forwarder that makes the link longer.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.broker.paths import BrokerPaths, broker_paths
from glideinwms_bosco.link.tls import Identity, make_identity
from glideinwms_bosco.sshwire.handle import SUBMIT, handle_id
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized
from tests.bench.figures import BenchError
from tests.free_port import ADDRESS, free_port
from tests.lab.process import checked, wait_for
from tests.lab.settings import CHECKOUT

SSH = Path("/usr/bin/ssh")
START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 20.0
BURST = 1000
"""Signatures that a handle has before its rate counts: the most that a policy may give."""
_RSS = re.compile(r"^VmRSS:\s+([0-9]+) kB", re.MULTILINE)


@dataclass
class Process:
    """A daemon of the bench."""

    process: subprocess.Popen[bytes]

    @property
    def mib(self) -> float:
        """Resident memory now (MiB)."""
        found = _RSS.search(Path(f"/proc/{self.process.pid}/status").read_text())
        if found is None:
            raise BenchError("a daemon has ended")
        return int(found[1]) / 1024

    @property
    def cpu_s(self) -> float:
        """Processor time it has used so far (s)."""
        # Source: sched-stats.rst of the kernel, /proc/pid/schedstat: the first field, nanoseconds. Per thread.
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


@contextmanager
def running(log: Path, argv: Sequence[str], env: Optional[Mapping[str, str]] = None) -> Iterator[Process]:
    """Run a daemon; it is told to stop at the end."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **(env or {})}
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        yield Process(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_key(file: Path, kind: Sequence[str]) -> PublicKey:
    """Make a key pair with ssh-keygen; `kind` are its options -t and -b."""
    checked(["ssh-keygen", "-q", *kind, "-N", "", "-C", "", "-f", str(file)])
    return parse_authorized(file.with_name(f"{file.name}.pub").read_text())


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def ssh_agent(path: Path, files: Sequence[Path]) -> Iterator[Process]:
    """OpenSSH's agent with some private keys."""
    log = path.with_suffix(".log")
    with running(log, ["ssh-agent", "-D", "-a", str(path)]) as process:
        wait_for("ssh-agent", lambda: _listens(path), START_DEADLINE_S, log.read_text)
        checked(["env", f"SSH_AUTH_SOCK={path}", "ssh-add", "-q", *map(str, files)])
        yield process


@dataclass
class RelaySide:
    """A relay in a folder of its own.

    Attributes:
        dial_port: where brokers reach it, if not at its own port.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    dial_port: int = 0
    identity: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.identity = make_identity(self.folder, "relay")

    @property
    def sockets(self) -> Path:
        """Folder of the agent sockets."""
        return self.folder / "run"

    def socket(self, handle: str) -> Path:
        """The agent socket of a handle."""
        return self.sockets / f"{handle}.sock"

    def conf(self, handle: str) -> Path:
        """The ssh configuration of a handle."""
        return self.sockets / f"{handle}.conf"

    @property
    def factory(self) -> dict[str, Any]:
        """Its block in a broker's policy."""
        return {"relay": f"{ADDRESS}:{self.dial_port or self.port}", "spki": [self.identity.pin]}

    @contextmanager
    def serving(self, pins: Sequence[str]) -> Iterator[Process]:
        """Run it for brokers with these keys."""
        conf = {
            "version": 1, "listen": ADDRESS, "port": self.port, "identity": str(self.folder / "relay"),
            "socket_dir": str(self.sockets), "allowed_uids": [os.getuid()], "ssh_include": [],
            "brokers": [
                {"name": f"bench{number}", "frontend": "bench", "spki": [pin],
                 "credential_paths": [str(self.folder / f"user_{number}")]}
                for number, pin in enumerate(pins)
            ],
        }  # fmt: skip
        file, log = self.folder / "relay.conf", self.folder / "log"
        file.write_text(json.dumps(conf))
        argv = [sys.executable, "-m", "glideinwms_bosco.cli.ssh_relay", "--conf", str(file), "run"]
        with running(log, argv) as process:
            status = self.sockets / "status.json"
            wait_for("relay", status.exists, START_DEADLINE_S, log.read_text)
            yield process


class BrokerSide:
    """A broker in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {
            "GWMS_SSH_BROKER_DIR": str(folder / "etc"),
            "GWMS_SSH_BROKER_STATE": str(folder / "state"),
            "GWMS_SSH_BROKER_LOG": str(folder / "log"),
        }
        self._paths: BrokerPaths = broker_paths(self._env)
        for path in (self._paths.config_dir, self._paths.state_dir, self._paths.log_dir):
            path.mkdir(parents=True)
        self.identity = make_identity(self._paths.state_dir, "broker")

    def handle(self, key: PublicKey) -> str:
        """The handle of a key."""
        return handle_id(self.identity.spki_der, key.blob, SUBMIT)

    @contextmanager
    def serving(
        self, keys: Mapping[str, dict[str, Any]], hosts: Sequence[dict[str, Any]], relays: Mapping[str, RelaySide]
    ) -> Iterator[Process]:
        """Run it.

        Args:
            keys: entry name -> the policy's `key` and `user`.
            hosts: where all entries may log in.
            relays: factory name -> relay.
        """
        common = {"hosts": hosts, "factories": list(relays), "rate": {"burst": BURST, "per_hour": BURST}}
        policy = {
            "version": 1,
            "factories": {name: relay.factory for name, relay in relays.items()},
            "handles": {name: {**common, **entry} for name, entry in keys.items()},
        }
        self._paths.policy.write_text(json.dumps(policy))
        log = self._folder / "daemon.log"
        with running(log, [sys.executable, "-m", "glideinwms_bosco.cli.ssh_broker", "run"], self._env) as process:
            yield process

    def log(self) -> str:
        """What it has printed."""
        return (self._folder / "daemon.log").read_text()


def wait_for_handles(relay: RelaySide, handles: Sequence[str], broker: BrokerSide) -> None:
    """Wait until a relay serves handles.

    Raises:
        LabError: it does not in time.
    """
    sockets = [relay.socket(handle) for handle in handles]
    wait_for("handles at the relay", lambda: all(map(Path.exists, sockets)), START_DEADLINE_S, broker.log)
