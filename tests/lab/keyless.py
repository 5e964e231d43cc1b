# SPDX-License-Identifier: Apache-2.0
"""Frontends with a key broker and a factory with the relay, set up by the administrators' own commands."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Optional

from tests.lab.daemon import Daemon
from tests.lab.lab import Lab
from tests.lab.settings import CHECKOUT_IN_HOST
from tests.lab.waiting import await_true

RELAY_USER = "gwmsrelay"
BROKER_USER = "gwmsbroker"
FACTORY_USER = "factory"
RELAY_DIR = "/etc/gwms-ssh-relay"
CONDOR_CONFIG_D = "/home/factory/condor/config.d"
SOCKETS = "/run/gwms-ssh-relay"
RELAY_SNIPPET = f"{CONDOR_CONFIG_D}/50-gwms-ssh-relay.conf"
CREDENTIALS = "/var/lib/gwms-factory/client-proxies"
BROKER_DIR = "/etc/gwms-ssh-broker"
PORT = 8620
UP_DEADLINE_S = 30.0
PASSPHRASE = "correct horse battery staple"

# name in PATH -> module; as the packages install them
_FACTORY_PROGRAMS = {
    "/usr/bin/gwms-ssh-relay": "glideinwms_bosco.cli.ssh_relay",
    "/usr/bin/gwms-ssh-tap": "glideinwms_bosco.relay.tap",
    "/usr/libexec/gwms-bosco/gwms_remote_gahp": "glideinwms_bosco.relay.launcher",
    "/usr/libexec/gwms-bosco/shim/ssh": "glideinwms_bosco.relay.ssh_shim",
}
_FRONTEND_PROGRAMS = {"/usr/bin/gwms-ssh-broker": "glideinwms_bosco.cli.ssh_broker"}
_PROGRAM = """\
#!/usr/bin/python3
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, {checkout!r})
from {module} import main
sys.exit(main())
"""


def _install(lab: Lab, host: str, programs: dict[str, str]) -> None:
    for path, module in programs.items():
        lab.run(host, ["install", "-d", path.rpartition("/")[0]])
        lab.write_file(host, path, _PROGRAM.format(checkout=CHECKOUT_IN_HOST, module=module), mode=0o755)


def _add_user(lab: Lab, host: str, name: str, *groups: str) -> None:
    if lab.run(host, ["id", name], check=False).returncode:
        more = ["--groups", ",".join(groups)] if groups else []
        lab.run(host, ["useradd", "--system", "--create-home", "--home-dir", f"/var/lib/{name}", *more, name])


@dataclass(frozen=True)
class Relay:
    """The factory's relay.

    Attributes:
        pin: of its TLS key.
        daemon: the running program.
    """

    lab: Lab
    pin: str
    daemon: Daemon

    def admit(self, *brokers: Broker) -> None:
        """Put exactly these brokers into relay.conf and have it read again."""
        self.write_conf([broker.conf_block() for broker in brokers])

    def write_conf(self, blocks: list[dict[str, Any]]) -> None:
        """Put exactly these blocks of brokers into relay.conf and have it read again."""
        _write_conf(self.lab, blocks)
        if self.daemon.alive():
            self.daemon.signal("HUP")

    def status(self) -> dict[str, Any]:
        """`gwms-ssh-relay status --json` as the factory's user sees it."""
        text = self.lab.run("factory", ["gwms-ssh-relay", "status", "--json"], user=FACTORY_USER).stdout
        status: dict[str, Any] = json.loads(text)
        return status

    def offers(self, handle: str) -> bool:
        """Tell whether a handle is offered by a connected broker."""
        done = self.lab.run("factory", ["gwms-ssh-relay", "status", "--json"], user=FACTORY_USER, check=False)
        if done.returncode:
            return False
        return any(row["handle"] == handle and row["broker"] == "up" for row in json.loads(done.stdout)["handles"])


def _write_conf(lab: Lab, brokers: list[dict[str, Any]]) -> None:
    conf = {
        "version": 1,
        "identity": f"{RELAY_DIR}/relay",
        "socket_group": FACTORY_USER,
        "allowed_uids": [FACTORY_USER],
        "brokers": brokers,
    }
    lab.write_file("factory", f"{RELAY_DIR}/relay.conf", json.dumps(conf, indent=1))


def start_relay(lab: Lab) -> Relay:
    """Install and start the relay on the factory, and point HTCondor at its gahp launcher."""
    _install(lab, "factory", _FACTORY_PROGRAMS)
    _add_user(lab, "factory", RELAY_USER, FACTORY_USER)
    lab.run("factory", ["install", "-d", "-o", RELAY_USER, "-m", "0755", RELAY_DIR])
    lab.run("factory", ["install", "-d", "-o", RELAY_USER, "-g", FACTORY_USER, "-m", "0750", SOCKETS])
    lab.run("factory", ["install", "-d", "-m", "0755", "/var/lib/gwms-factory", CREDENTIALS])
    _write_conf(lab, [])
    made = lab.run("factory", ["gwms-ssh-relay", "init", "--host", "factory"], user=RELAY_USER).stdout
    snippet = lab.run("factory", ["cat", f"{CHECKOUT_IN_HOST}/factory_configs/htcondor/50-gwms-ssh-relay.conf"]).stdout
    lab.write_file("factory", RELAY_SNIPPET, snippet, FACTORY_USER)
    lab.run("factory", ["condor_reconfig"], user=FACTORY_USER)
    daemon = Daemon(lab, "factory", RELAY_USER, "relay", ["gwms-ssh-relay", "run"])
    daemon.start()
    relay = Relay(lab, _pin(made), daemon)
    _await_answer(lab, daemon, ["gwms-ssh-relay", "status"], "factory", FACTORY_USER)
    return relay


def forget_relay(lab: Lab) -> None:
    """Leave nothing of a relay that has ended on the factory, and point HTCondor back at its own remote_gahp."""
    lab.run("factory", ["rm", "-rf", RELAY_DIR, SOCKETS])
    if lab.run("factory", ["test", "-e", RELAY_SNIPPET], check=False).returncode == 0:
        lab.run("factory", ["rm", RELAY_SNIPPET])
        lab.run("factory", ["condor_reconfig"], user=FACTORY_USER)


def _await_answer(lab: Lab, daemon: Daemon, argv: list[str], host: str, user: str) -> None:
    def answers() -> bool:
        if not daemon.alive():
            raise AssertionError(f"{daemon.name} has ended:\n{daemon.log()}")
        return lab.run(host, argv, user=user, check=False).returncode == 0

    await_true(answers, f"{daemon.name} answers", UP_DEADLINE_S)


def _pin(text: str) -> str:
    found = [word for word in text.replace('"', " ").split() if word.startswith("sha256:")]
    if not found:
        raise AssertionError(f"no pin in:\n{text}")
    return found[0]


@dataclass(frozen=True)
class Broker:
    """A VO's frontend with its key broker.

    Attributes:
        host: the lab host.
        vo: name; its credentials arrive at the factory in user_fe<vo>.
        pin: of its TLS key.
        daemon: the running program.
    """

    lab: Lab
    host: str
    vo: str
    pin: str
    daemon: Daemon

    @property
    def credentials(self) -> str:
        """Folder at the factory where this frontend's credentials arrive."""
        return f"{CREDENTIALS}/user_fe{self.vo}"

    def conf_block(self) -> dict[str, Any]:
        """Its block of relay.conf."""
        return {
            "name": self.vo,
            "frontend": f"{self.vo} frontend",
            "spki": [self.pin],
            "credential_paths": [self.credentials],
        }

    def run(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`gwms-ssh-broker ...` as the broker's administrator."""
        return self.lab.run(self.host, ["gwms-ssh-broker", *args], user=BROKER_USER, check=check)

    def make_key(self, name: str, kind: str = "ed25519", bits: Optional[int] = None) -> str:
        """Make an encrypted key in the broker's folder, as the guide says; return its public line."""
        path = f"{BROKER_DIR}/{name}"
        secret = f"{path}.pass"
        self.lab.write_file(self.host, secret, PASSPHRASE + "\n", f"{BROKER_USER}:{BROKER_USER}", 0o600)
        size = ["-b", str(bits)] if bits else []
        # -N shows the passphrase to other users of the host for an instant; a test's host has none.
        argv = ["ssh-keygen", "-q", "-t", kind, *size, "-a", "4", "-N", PASSPHRASE, "-C", name, "-f", path]
        self.lab.run(self.host, argv, user=BROKER_USER)
        return self.lab.read_file(self.host, f"{path}.pub").strip()

    def add_key(self, name: str, site_host: str, *options: str, user: str = "pilot", port: int = 22) -> None:
        """Register the key for an account at a lab host, comparing host keys on that host's own disk."""
        prints = self.lab.run(
            site_host, ["sh", "-c", "for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $k; done"]
        )
        accept = [word for word in prints.stdout.split() if word.startswith("SHA256:")]
        argv = ["key", "add", name, "--file", f"{BROKER_DIR}/{name}", "--passphrase", f"file:{BROKER_DIR}/{name}.pass"]
        argv += ["--user", user, "--host", site_host if port == 22 else f"{site_host}:{port}", "--factory", "lab"]
        self.run(*argv, *(word for print_ in accept for word in ("--accept", print_)), *options)

    def handles(self, name: str) -> dict[str, str]:
        """Purpose -> handle of an entry."""
        found: dict[str, str] = json.loads(self.run("key", "show", name, "--json").stdout)["handles"]
        return found

    def deliver(self, name: str) -> str:
        """Carry the stanza's handle file to where glideinWMS writes this frontend's credentials; return its path."""
        self.run("stanza", name, "--frontend", "3.11", "--trust-domain", "lab", "--folder", "/tmp", "--write")
        handle_key = self.lab.read_file(self.host, f"/tmp/{name}-{self.handles(name)['submit']}")
        folder = f"{self.credentials}/glidein_gfactory"
        path = f"{folder}/credential_{self.vo}_{name}"
        self.lab.run("factory", ["install", "-d", "-o", FACTORY_USER, "-m", "0700", self.credentials, folder])
        self.lab.write_file("factory", path, handle_key, f"{FACTORY_USER}:{FACTORY_USER}", 0o600)
        return path


def start_broker(lab: Lab, relay: Relay, host: str, vo: str) -> Broker:
    """Install and start a broker on a frontend host and register the factory; the relay does not know it yet."""
    lab.ensure(host)
    _install(lab, host, _FRONTEND_PROGRAMS)
    _add_user(lab, host, BROKER_USER)
    for path in (BROKER_DIR, "/var/lib/gwms-ssh-broker", "/var/log/gwms-ssh-broker"):
        lab.run(host, ["rm", "-rf", path])  # of another test module
        lab.run(host, ["install", "-d", "-o", BROKER_USER, "-g", BROKER_USER, "-m", "0750", path])
    made = lab.run(host, ["gwms-ssh-broker", "init"], user=BROKER_USER).stdout
    daemon = Daemon(lab, host, BROKER_USER, "broker", ["gwms-ssh-broker", "run"])
    broker = Broker(lab, host, vo, _pin(made), daemon)
    broker.run("factory", "add", "lab", "--relay", f"factory:{PORT}", "--spki", relay.pin,
               "--source-address", "10.77.0.10/32")  # fmt: skip
    daemon.start()
    _await_answer(lab, daemon, ["gwms-ssh-broker", "status"], host, BROKER_USER)
    return broker


def authorise(lab: Lab, host: str, user: str, line: str) -> None:
    """Add a line to an account's authorized_keys."""
    path = f"{lab.host(host).account(user).home}/.ssh/authorized_keys"
    before = lab.read_file(host, path)
    lab.write_file(host, path, f"{before.rstrip()}\n{line}\n", f"{user}:{user}", 0o600)


def await_offer(relay: Relay, handle: str) -> None:
    """Wait until the relay can use a handle."""
    await_true(lambda: relay.offers(handle), f"handle {handle} is offered", UP_DEADLINE_S)
