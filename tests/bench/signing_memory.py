# SPDX-License-Identifier: Apache-2.0
"""Memory of one relay and one broker with a thousand handles, and what both do when nothing is asked of them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized, parse_public_key
from tests.bench.agent_load import HostKey, full_logins, make_logins
from tests.bench.figures import Figure, Section
from tests.bench.signers import BrokerSide, RelaySide, ssh_agent, wait_for_handles

HANDLES = 1000
TARGET_MIB = 150
IDLE_S = 10.0


def measure(folder: Path) -> Section:
    """Offer many handles, get a signature by each, and look at the processes.

    Raises:
        BenchError: a signature did not come.
        LabError: a daemon does not start.
    """
    keys = [_make_key(folder / f"key-{number}") for number in range(HANDLES)]
    host = HostKey()
    relay, broker = RelaySide(folder / "relay"), BrokerSide(folder / "broker")
    agent = folder / "agent"
    with ExitStack() as stack:
        # One agent for all: a thousand of them would measure the machine.
        stack.enter_context(ssh_agent(agent, [folder / f"key-{number}" for number in range(HANDLES)]))
        relay_process = stack.enter_context(relay.serving([broker.identity.pin]))
        empty_mib = relay_process.mib
        entries = {
            f"entry-{number}": {
                "key": {"backend": "agent-socket", "socket": str(agent), "public": key.authorized},
                "user": f"pilot{number}",
            }
            for number, key in enumerate(keys)
        }
        hosts = [{"name": "site.example.org", "keys": [parse_public_key(host.blob).authorized]}]
        broker_process = stack.enter_context(broker.serving(entries, hosts, {"near": relay}))
        wait_for_handles(relay, [broker.handle(key) for key in keys], broker)
        for number, key in enumerate(keys):
            full_logins(relay.socket(broker.handle(key)), make_logins(key, f"pilot{number}", host, 1))
        before = [process.cpu_s for process in (relay_process, broker_process)]
        time.sleep(IDLE_S)
        busy = [(process.cpu_s - was) / IDLE_S * 100 for process, was in zip((relay_process, broker_process), before)]
        files = sum(path.stat().st_size for path in relay.sockets.iterdir() if path.is_file())
        return Section(
            f"{HANDLES:,} handles of one broker at one relay, after a login by each",
            (
                Figure("memory of the relay", [relay_process.mib], "MiB", "without a handle", [empty_mib],
                       f"target < {TARGET_MIB} MiB"),
                Figure("  its files for ssh", [files / 2**20], "MiB"),
                Figure("memory of the broker", [broker_process.mib], "MiB"),
                Figure("processor when idle: relay", [busy[0]], "%"),
                Figure("  broker", [busy[1]], "%"),
            ),
        )  # fmt: skip


def _make_key(file: Path) -> PublicKey:
    """Make an ed25519 key file; a thousand runs of ssh-keygen would take longer than all else."""
    private = ed25519.Ed25519PrivateKey.generate()
    file.touch(mode=0o600)
    file.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return parse_authorized(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
