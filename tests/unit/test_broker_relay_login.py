# SPDX-License-Identifier: Apache-2.0
"""Broker, relay, ssh and sshd together: keys that change, and certificates in place of keys."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Optional

import pytest

from glideinwms_bosco.broker.authorized import ca_lines
from glideinwms_bosco.broker.backends.exec_key import ExecKeyBackend
from glideinwms_bosco.broker.policy import load_policy
from glideinwms_bosco.broker.service import Broker
from glideinwms_bosco.relay.conf import BrokerConf, RelayConf
from glideinwms_bosco.relay.service import Relay
from glideinwms_bosco.sshwire.handle import SUBMIT, handle_id, named_anchor
from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.unit.broker_keys import make_ssh_key, short_folder, until
from tests.unit.broker_world import BrokerWorld
from tests.unit.ssh_version import needs_session_bind
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd", "short_folder"]

SSH_S = 30.0


class Pair:
    """A broker and a relay that know each other, both in this process."""

    def __init__(self, world: BrokerWorld, broker: Broker, relay: Relay, folder: Path) -> None:
        self.world = world
        self.broker = broker
        self.relay = relay
        self.folder = folder

    @property
    def handle(self) -> str:
        """The only handle."""
        (row,) = self.relay.status()["handles"]
        return str(row["handle"])

    def file(self, suffix: str) -> Path:
        """A file of the relay for the only handle."""
        return self.folder / f"{self.handle}{suffix}"

    async def login(self, sshd: LoopbackSshd) -> tuple[int, str]:
        """Log in as the gahp launcher's ssh does."""
        argv = ["ssh", "-F", str(self.file(".conf")), "-l", sshd.user, "127.0.0.1", "echo logged in"]
        pipe, out, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT, asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(*argv, stdin=nothing, stdout=pipe, stderr=out)
        output, _ = await asyncio.wait_for(process.communicate(), SSH_S)
        return process.returncode or 0, output.decode()


@asynccontextmanager
async def _pair(world: BrokerWorld) -> AsyncIterator[Pair]:
    folder = world.folder / "s"
    cms = BrokerConf("cms", "CMS", (world.identity.pin,), ("/nowhere/user_cms",))
    conf = RelayConf(
        file="relay.conf", identity=world.folder / "relay", allowed=(os.getuid(),), brokers=(cms,),
        listen="127.0.0.1", port=0, socket_dir=folder, ssh_include=(), tap="never",
    )  # fmt: skip
    relay = Relay(conf)
    await relay.start()
    world.write_policy(relay.port)
    broker = Broker(world.paths)
    task = asyncio.ensure_future(broker.run())
    try:
        await until(lambda: task.done() or bool(relay.status()["handles"]))
        yield Pair(world, broker, relay, folder)
    finally:
        broker.stop()
        await task
        await relay.stop()


def _add(world: BrokerWorld, sshd: LoopbackSshd, key: Optional[dict[str, Any]] = None, **more: Any) -> None:
    fields: dict[str, Any] = {
        "user": sshd.user,
        "hosts": [{"name": "127.0.0.1", "port": sshd.port, "keys": [sshd.host_key]}],
        **({"key": key} if key else {}),
        **more,
    }
    world.add_key("site", **fields)


def _fetching(world: BrokerWorld, sshd: LoopbackSshd, after: str) -> dict[str, Any]:
    """A command that makes a new key each time, as sshproxy does; the site then knows that one only."""
    program = world.folder / "fetch"
    site = sshd.directory / "authorized_keys"
    make = 'ssh-keygen -q -t ed25519 -N "" -C "" -f key'
    program.write_text(f"#!/bin/sh\nset -e\nSITE={site}\nCA={world.folder / 'ca'}\n{make}\n{after}\n")
    program.chmod(0o755)
    return {"backend": "exec", "command": [str(program)]}


AUTHORIZES = 'cp key.pub "$SITE"'
CERTIFIES = 'ssh-keygen -q -s "$CA" -I fetched -n gwms-pilot -V -1m:+2m key.pub'


@pytest.fixture
def world(short_folder: Path) -> BrokerWorld:
    return BrokerWorld(short_folder)


@needs_session_bind
@pytest.mark.parametrize("after", [AUTHORIZES, CERTIFIES], ids=["key", "certificate"])
def test_handle_stays_while_each_fetch_brings_a_new_key(
    world: BrokerWorld, loopback_sshd: LoopbackSshd, after: str
) -> None:
    ca = make_ssh_key(world.folder / "ca")
    line = f'cert-authority,principals="gwms-pilot" {ca.authorized}\n'
    (loopback_sshd.directory / "authorized_keys").write_text(line)
    _add(world, loopback_sshd, _fetching(world, loopback_sshd, after))
    seen: list[str] = []

    async def run() -> None:
        async with _pair(world) as pair:
            for turn in range(3):
                await until(lambda: pair.file(".pub").exists() and pair.file(".pub").read_text() not in seen)
                if after == CERTIFIES:
                    await until(lambda: _is_certified(pair))
                assert pair.handle == handle_id(world.identity.spki_der, named_anchor("site"), SUBMIT)
                seen.append(pair.file(".pub").read_text())
                status, output = await pair.login(loopback_sshd)
                assert status == 0, (turn, output)
                assert "logged in" in output.splitlines()
                backend = pair.broker._ring.backend(load_policy(world.paths.policy).entries["site"].key)
                assert isinstance(backend, ExecKeyBackend)
                backend._again.set()

    asyncio.run(run())
    signed = [record["key"] for record in world.audit() if record["event"] == "sign"]
    assert signed == [parse_authorized(text).fingerprint for text in seen]
    assert len(set(signed)) == 3


def _is_certified(pair: Pair) -> bool:
    """Whether the certificate that ssh would show is for the key that it would show."""
    file = pair.file("-cert.pub")
    key = parse_authorized(pair.file(".pub").read_text())
    return file.exists() and key.blob[-32:] in base64.b64decode(file.read_text().split()[1])


@needs_session_bind
def test_sshd_that_trusts_a_ca_takes_the_brokers_certificate_and_not_the_bare_key(
    world: BrokerWorld, loopback_sshd: LoopbackSshd
) -> None:
    ca = make_ssh_key(world.paths.config_dir / "ca")
    source = {"backend": "ssh-agent", "file": str(world.paths.config_dir / "ca")}
    _add(world, loopback_sshd, cert={"mode": "cert+sign", "ca": source, "principals": ["gwms-pilot"], "ttl": 60})

    async def run() -> None:
        async with _pair(world) as pair:
            policy = load_policy(world.paths.policy)
            (line,) = ca_lines(policy, policy.entries["site"], ca)
            (loopback_sshd.directory / "authorized_keys").write_text(f"{line}\n")
            await until(lambda: pair.file("-cert.pub").exists())
            status, output = await pair.login(loopback_sshd)
            assert status == 0, output
            # A line for other principals: the same certificate is of no use there.
            (loopback_sshd.directory / "authorized_keys").write_text(f"{line}\n".replace("gwms-pilot", "others"))
            status, output = await pair.login(loopback_sshd)
            assert status == 255
            assert "Permission denied (publickey)" in output

    asyncio.run(run())
    record = next(record for record in world.audit() if record["event"] == "sign")
    assert record["cert_key_id"] == "gwms:site:submit:fact"
    assert f"ID {record['cert_key_id']} (serial {record['cert_serial']}) CA" in loopback_sshd.log.read_text()


def test_factory_hears_17_of_a_disabled_entry(world: BrokerWorld, loopback_sshd: LoopbackSshd) -> None:
    _add(world, loopback_sshd)
    public = (world.paths.config_dir / "site.pub").read_text()
    (loopback_sshd.directory / "authorized_keys").write_text(public)

    async def run() -> None:
        async with _pair(world) as pair:
            world.policy["handles"]["site"]["enabled"] = False
            world.write_policy()
            pair.broker.reload()
            status, output = await pair.login(loopback_sshd)
            assert status == 255, output
            (row,) = pair.relay.status()["handles"]
            assert (row["last_deny"]["code"], row["last_deny"]["reason"]) == (17, "site is disabled")

    asyncio.run(run())
