# SPDX-License-Identifier: Apache-2.0
"""A factory with the ssh of three Debians, login nodes of the same three, and a broker with a key of each type."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from tests.lab.daemon import Daemon
from tests.lab.keyless import (
    BROKER_DIR,
    BROKER_USER,
    FACTORY_USER,
    PORT,
    RELAY_DIR,
    RELAY_USER,
    SOCKETS,
    UP_DEADLINE_S,
    Broker,
    authorise,
    start_broker,
    start_relay,
)
from tests.lab.lab import Lab
from tests.lab.other_debian import OtherDebian, provide
from tests.lab.waiting import await_true

USER = "pilot"
FRONTEND = "frontend"
# Debian -> the host whose sshd is that Debian's.
SERVERS = {11: "login-oldest", 12: "login-old", 13: "login"}
KEY_TYPES = ("ed25519", "ecdsa", "rsa")
HOST_CERT = "host certificate"
BY_CA, JUMP, BEHIND_JUMP, GATE, MISREGISTERED = "by-ca", "jump", "behind-jump", "gate", "misregistered"
GATE_DIR = "gate-interop"
CERT = {kind: f"cert-{kind}" for kind in KEY_TYPES}
PRINCIPAL = "gwms-pilot"
USER_CA = "user-ca"
# entry -> type of its key
ENTRIES = {
    **{kind: kind for kind in KEY_TYPES},
    **{name: kind for kind, name in CERT.items()},
    **dict.fromkeys((BY_CA, JUMP, BEHIND_JUMP, GATE, MISREGISTERED), "ed25519"),
}
# Tests log in far more often than a factory does.
RATE = {"burst": 1000, "per_hour": 3600}

SHIM = "/usr/libexec/gwms-bosco/shim/ssh"
INCLUDED = "/var/lib/gwms-bosco/ssh/config"
OLD_SSH = "/usr/local/bin/ssh-of-debian11"
ROOTS = {11: "/srv/debian11", 12: "/srv/debian12"}
# What the older Debians see of the host besides its processes and sockets.
SHARED = ("/usr/libexec/gwms-bosco", "/var/lib/gwms-bosco", "/home/factory")
TAP_SOCKETS = "/run/gwms-ssh-relay-tapped"
FACTORY_ADDRESS, JUMP_ADDRESS = "10.77.0.10/32", "10.77.0.23/32"
AUDIT = "/var/log/gwms-ssh-broker/audit.jsonl"
_SSHD_CONF = "/etc/ssh/sshd_config.d/20-interop.conf"
_HOST_CERTIFICATE = "/etc/ssh/ssh_host_ed25519_key-cert.pub"
_HOST_CA = "/root/host-ca"
# What other tests have made of the factory's ssh configuration is none of these logins' business.
_PUT_ASIDE = 'install -d -o factory -g factory "${1%/*}"; [ ! -e "$1" ] || mv "$1" "$1.aside"'
_PUT_BACK = 'rm -f "$1"; [ ! -e "$1.aside" ] || mv "$1.aside" "$1"'
_CERTIFY = 'ssh-keygen -q -s "$1" -h -I "$2" -n "$2" -V -5m:+1d -z 1 "$3.pub"'


@dataclass(frozen=True)
class Client:
    """One Debian's ssh on the factory host.

    Attributes:
        other: where it is; None is the host's own.
        sockets: folder of the relay that it uses.
    """

    lab: Lab
    debian: int
    other: Optional[OtherDebian]
    sockets: str

    def run(self, argv: Sequence[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a program of this Debian as the factory's user."""
        if self.other is None:
            return self.lab.run("factory", argv, user=FACTORY_USER, env=env, check=False)
        return self.other.run(argv, FACTORY_USER, env)


@dataclass
class World:
    """All of it.

    Attributes:
        daemons: of both relays and of the broker.
        roots: Debian -> its programs on the factory host.
        handles: entry -> handle for pilots.
        seen: lines of the audit log that were looked at.
    """

    lab: Lab
    daemons: tuple[Daemon, ...]
    roots: dict[int, Optional[OtherDebian]]
    handles: dict[str, str]
    seen: int = field(default=0)

    def client(self, debian: int, tapped: bool) -> Client:
        """A client, on a factory whose relay has found an ssh that needs the tap, or one that does not."""
        return Client(self.lab, debian, self.roots[debian], TAP_SOCKETS if tapped else SOCKETS)

    def await_offers(self) -> None:
        """Wait until both relays have the files of all handles and their certificates."""
        await_true(self._all_offered, "all handles are offered", UP_DEADLINE_S)

    def _all_offered(self) -> bool:
        files = [f"{handle}.conf" for handle in self.handles.values()]
        files += [f"{self.handles[name]}-cert.pub" for name in CERT.values()]
        root = self.lab.host_root("factory")
        folders = [root / path.lstrip("/") for path in (SOCKETS, TAP_SOCKETS)]
        return all((folder / name).exists() for folder in folders for name in files)

    def ssh(
        self, client: Client, entry: str, server: str, *options: str, command: str = "id -un"
    ) -> subprocess.CompletedProcess[str]:
        """Log in as remote_gahp does: by the ssh shim, with the environment that the launcher gives it."""
        base = f"{client.sockets}/{self.handles[entry]}"
        env = {
            "SSH_AUTH_SOCK": f"{base}.sock",
            "GWMS_SSH_HANDLE_CONF": f"{base}.conf",
            "GWMS_SSH_HANDLE": self.handles[entry],
            "GWMS_SSH_CLIENT": "/usr/bin/ssh",
        }
        return client.run([SHIM, *options, f"{USER}@{server}", command], env)

    def audited(self) -> list[dict[str, Any]]:
        """What the broker has written down about signatures since the last call."""
        path = self.lab.host_root(FRONTEND) / AUDIT.lstrip("/")
        lines = path.read_text().splitlines()
        new, self.seen = lines[self.seen :], len(lines)
        records = [json.loads(line) for line in new]
        return [record for record in records if record["event"] in ("sign", "deny")]

    def host_key(self, server: str, kind: str) -> str:
        """Fingerprint of a server's host key."""
        path = f"/etc/ssh/ssh_host_{kind}_key.pub"
        return self.lab.run(server, ["ssh-keygen", "-lf", path]).stdout.split()[1]

    def end(self) -> None:
        """Leave the hosts as they were, but for accounts of daemons."""
        for daemon in self.daemons:
            daemon.stop()
        for root in self.roots.values():
            if root is not None:
                root.remove()
        self.lab.run("factory", ["sh", "-euc", _PUT_BACK, "sh", INCLUDED])
        for host in SERVERS.values():
            self.lab.run(host, ["rm", "-f", _SSHD_CONF, _HOST_CERTIFICATE])
            self.lab.run(host, ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
            home = self.lab.host(host).account(USER).home
            self.lab.run(host, ["rm", "-rf", f"{home}/{GATE_DIR}", f"{home}/bin/gwms-gate"])
            self.lab.run(host, ["sed", "-i", "/gwms-ssh-broker:/d", f"{home}/.ssh/authorized_keys"])


def build(lab: Lab) -> World:
    """Set everything up; every account lets every entry's key in, by the line that `key show` prints."""
    for host in SERVERS.values():
        if host != "login":
            lab.ensure(host)
    relay = start_relay(lab)
    broker = start_broker(lab, relay, FRONTEND, "cms")
    relay.admit(broker)
    # The relays look at ssh when they start.
    roots = _roots(lab)
    daemons = (relay.daemon, _start_tapped_relay(lab, broker), broker.daemon)
    _write_policy(lab, broker, _certify_hosts(lab))
    world = World(lab, daemons, roots, _authorise(lab, broker))
    world.await_offers()
    return world


def _roots(lab: Lab) -> dict[int, Optional[OtherDebian]]:
    """The host's own ssh, and older ones in roots of their own."""
    lab.run("factory", ["sh", "-euc", _PUT_ASIDE, "sh", INCLUDED])
    # The relay runs it to learn its version, and has not the privilege of chroot.
    lab.write_file("factory", OLD_SSH, f'#!/bin/sh\nexec unshare -r chroot {ROOTS[11]} ssh "$@"\n', mode=0o755)
    roots: dict[int, Optional[OtherDebian]] = {13: None}
    tap = lab.read_file("factory", "/usr/bin/gwms-ssh-tap")
    for debian, root in ROOTS.items():
        roots[debian] = provide(lab, "factory", SERVERS[debian], root, SHARED)
        lab.write_file("factory", f"{root}/usr/bin/gwms-ssh-tap", tap, mode=0o755)
    return roots


def _start_tapped_relay(lab: Lab, broker: Broker) -> Daemon:
    """A second relay, as on a factory whose ssh is Debian 11's; to the broker it is another factory."""
    path = f"{RELAY_DIR}/tapped.conf"
    conf = json.loads(lab.read_file("factory", f"{RELAY_DIR}/relay.conf"))
    conf.update({"identity": f"{RELAY_DIR}/tapped", "port": PORT + 1, "socket_dir": TAP_SOCKETS, "ssh": OLD_SSH})
    lab.write_file("factory", path, json.dumps(conf))
    lab.run("factory", ["install", "-d", "-o", RELAY_USER, "-g", FACTORY_USER, "-m", "0750", TAP_SOCKETS])
    program = ["gwms-ssh-relay", "--conf", path]
    lab.run("factory", [*program, "init"], user=RELAY_USER)
    checked = lab.run("factory", [*program, "check"], user=RELAY_USER).stdout
    assert "proof of destination by the tap" in checked, checked
    pin = next(word for word in checked.split() if word.startswith("sha256:"))
    daemon = Daemon(lab, "factory", RELAY_USER, "relay-tapped", [*program, "run"])
    daemon.start()
    broker.run("factory", "add", "tapped", "--relay", f"factory:{PORT + 1}", "--spki", pin,
               "--source-address", FACTORY_ADDRESS)  # fmt: skip
    return daemon


def _certify_hosts(lab: Lab) -> str:
    """Give every server a certificate for its ed25519 key; return the public line of the CA that made them."""
    lab.run("login", ["rm", "-f", _HOST_CA, f"{_HOST_CA}.pub"])
    lab.run("login", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", _HOST_CA])
    for host in SERVERS.values():
        key = f"/root/{host}"
        lab.write_file("login", f"{key}.pub", lab.read_file(host, "/etc/ssh/ssh_host_ed25519_key.pub"))
        lab.run("login", ["sh", "-euc", _CERTIFY, "sh", _HOST_CA, host, key])
        lab.write_file(host, _HOST_CERTIFICATE, lab.read_file("login", f"{key}-cert.pub"))
        lab.write_file(host, _SSHD_CONF, f"HostCertificate {_HOST_CERTIFICATE}\n")
        lab.run(host, ["sh", "-c", "kill -HUP $(cat /run/sshd.pid)"])
        _await_certificate(lab, host)
    return lab.read_file("login", f"{_HOST_CA}.pub").strip()


def _await_certificate(lab: Lab, host: str) -> None:
    def shown() -> bool:
        return "cert" in lab.run("factory", ["ssh-keyscan", "-c", "-t", "ed25519", host], check=False).stdout

    await_true(shown, f"{host} shows its certificate", UP_DEADLINE_S)


def _key(name: str) -> dict[str, str]:
    path = f"{BROKER_DIR}/{name}"
    return {"backend": "ssh-agent", "file": path, "passphrase": f"file:{path}.pass"}


def _write_policy(lab: Lab, broker: Broker, host_ca: str) -> None:
    """Make the keys and write all entries at once, as an administrator who keeps the policy in a repository."""
    broker.make_key(USER_CA)
    for name, kind in ENTRIES.items():
        broker.make_key(name, kind)
    # Debian 11 still makes a DSA key, too.
    show = ["cat", *(f"/etc/ssh/ssh_host_{kind}_key.pub" for kind in KEY_TYPES)]
    keys = {host: lab.run(host, show).stdout.splitlines() for host in (*SERVERS.values(), "outside")}
    plain = {host: {"name": host, "keys": keys[host]} for host in SERVERS.values()}
    hosts: dict[str, list[dict[str, Any]]] = {name: list(plain.values()) for name in ENTRIES}
    hosts[BY_CA] = [{"name": host, "cas": [host_ca]} for host in SERVERS.values()]
    hosts[MISREGISTERED] = [{"name": host, "keys": keys["outside"]} for host in SERVERS.values()]
    hosts[JUMP] = [{**plain[SERVERS[12]], "jump_to": [f"{SERVERS[13]}:22"]}]
    hosts[BEHIND_JUMP] = [{**plain[SERVERS[13]], "via": [JUMP_ADDRESS]}]
    cert = {"mode": "cert+sign", "ca": _key(USER_CA), "principals": [PRINCIPAL], "ttl": 3600}
    path = f"{BROKER_DIR}/policy.json"
    policy = json.loads(lab.read_file(FRONTEND, path))
    for name in ENTRIES:
        entry: dict[str, Any] = {
            "key": _key(name),
            "user": USER,
            "hosts": hosts[name],
            "factories": ["lab", "tapped"],
            "rate": RATE,
        }
        entry.update({"cert": {**cert, "source_address": "factory"}} if name in CERT.values() else {})
        entry.update({"gate": GATE_DIR} if name == GATE else {})
        policy["handles"][name] = entry
    lab.write_file(FRONTEND, path, json.dumps(policy, indent=1), f"{BROKER_USER}:{BROKER_USER}", 0o640)
    broker.daemon.signal("HUP")


def _authorise(lab: Lab, broker: Broker) -> dict[str, str]:
    """Authorise every entry everywhere; return entry -> handle."""
    shown = {name: json.loads(broker.run("key", "show", name, "--json").stdout) for name in ENTRIES}
    lines = {name: show["authorized_keys"] for name, show in shown.items()}
    # One line of the CA lets in all that it certifies.
    for name in CERT.values():
        if name != CERT["ed25519"]:
            del lines[name]
    for host in SERVERS.values():
        authorise(lab, host, USER, "\n".join(lines.values()))
    return {name: show["handles"]["submit"] for name, show in shown.items()}


def install_gate(lab: Lab, host: str) -> str:
    """Put the gate into the account, and a program behind it; return the line that remote_gahp would send."""
    account = lab.host(host).account(USER)
    lab.host(host).make_dirs(f"{account.home}/bin", f"{account.home}/{GATE_DIR}/glite/bin", owner=USER)
    gate = lab.read_file("factory", "/srv/gwms-bosco/glideinwms_bosco/broker/files/gwms-gate")
    lab.write_file(host, f"{account.home}/bin/gwms-gate", gate, f"{USER}:{USER}", 0o755)
    program = f"{account.home}/{GATE_DIR}/glite/bin/blahpd"
    lab.write_file(host, program, "#!/bin/sh\necho blahpd of $BLAHPD_LOCATION\n", f"{USER}:{USER}", 0o755)
    glite = f"~/{GATE_DIR}/glite"
    return f"/bin/bash -l -c {shlex.quote(f'BLAHPD_LOCATION={glite} GLITE_LOCATION={glite} {glite}/bin/blahpd ')}"
