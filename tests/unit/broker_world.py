# SPDX-License-Identifier: Apache-2.0
"""A broker with real keys in a folder of its own, and a relay's stand-in that lets a real ssh ask it for signatures."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.broker.paths import BrokerPaths
from glideinwms_bosco.broker.service import Broker
from glideinwms_bosco.broker.status_file import read_status
from glideinwms_bosco.errors import BrokerError
from glideinwms_bosco.link.connection import LinkConnection, listen
from glideinwms_bosco.link.messages import (
    Answer,
    Deny,
    Offer,
    OfferAck,
    OfferItem,
    OfferResult,
    Sign,
    SignOk,
)
from glideinwms_bosco.link.tls import Identity, make_identity
from glideinwms_bosco.sshwire import agent as protocol
from glideinwms_bosco.sshwire.keys import PublicKey, parse_public_key
from glideinwms_bosco.sshwire.userauth import build_userauth
from tests.unit.broker_keys import make_ssh_key, until
from tests.unit.ssh_builder import Ed25519Signer

ASK_S = 20.0
HOST = Ed25519Signer(9)
"""Host key of `site.example.org`, in requests that no ssh has made."""
_sessions = itertools.count(1)


def login_request(item: OfferItem, key_blob: Optional[bytes] = None, host: Ed25519Signer = HOST) -> Sign:
    """What a relay would send for a login of a session of its own, with a session-bind of `host`."""
    session_id = next(_sessions).to_bytes(32, "big")
    blob = key_blob or item.pubkey_blob
    algorithm = {b"ssh-rsa": "rsa-sha2-512"}.get(blob[4:11]) or blob[4 : 4 + blob[3]].decode()
    bind = protocol.SessionBind(host.blob, session_id, host.sign(session_id), False)
    data = build_userauth(session_id, item.user, algorithm, blob, host.blob)
    flags = protocol.SSH_AGENT_RSA_SHA2_512 if algorithm == "rsa-sha2-512" else 0
    return Sign(item.handle, '{"client":"test"}', (bind.body,), (), data, flags)


class StandInRelay:
    """Listens for the broker, keeps its newest offer, and is an ssh agent for one handle."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.connection: Optional[LinkConnection] = None
        self.offers: list[Offer] = []
        self.refuse: dict[str, str] = {}
        self.denials: list[Deny] = []

    @property
    def items(self) -> dict[tuple[str, str], OfferItem]:
        """Newest offer by (comment's entry name, purpose)."""
        items = self.offers[-1].items if self.offers else ()
        return {(item.comment.split(":")[1], item.purpose): item for item in items}

    async def ask(self, message: Sign) -> Answer:
        assert self.connection is not None
        return await self.connection.request(message, ASK_S)

    async def sign(self, request: Sign) -> bytes:
        answer = await self.ask(request)
        assert isinstance(answer, SignOk), answer
        return answer.signature

    async def denied(self, request: Sign) -> Deny:
        answer = await self.ask(request)
        assert isinstance(answer, Deny), answer
        return answer

    def connected(self, connection: LinkConnection) -> None:
        connection.on_request = self._offered
        self.connection = connection

    async def _offered(self, offer: Offer) -> OfferAck:
        self.offers.append(offer)
        refuse = self.refuse
        results = (
            OfferResult(i.handle, 16 if i.handle in refuse else 0, refuse.get(i.handle, "")) for i in offer.items
        )
        return OfferAck(tuple(results))

    @asynccontextmanager
    async def agent(self, path: Path, item: OfferItem) -> AsyncIterator[None]:
        """An ssh agent's socket for one handle, as a relay has it."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            binds: list[bytes] = []
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    size = int.from_bytes(await reader.readexactly(4), "big")
                    answer = await self._agent_answer(
                        protocol.parse_request(await reader.readexactly(size)), item, binds
                    )
                    writer.write(len(answer).to_bytes(4, "big") + answer)
            writer.close()

        server = await asyncio.start_unix_server(serve, str(path))
        try:
            yield
        finally:
            server.close()

    async def _agent_answer(self, request: protocol.Request, item: OfferItem, binds: list[bytes]) -> bytes:
        if isinstance(request, protocol.ListIdentities):
            blobs = [item.pubkey_blob, *([item.cert_blob] if item.cert_blob else [])]
            return protocol.identities([(blob, item.comment) for blob in blobs])
        if isinstance(request, protocol.SessionBind):
            binds.append(request.body)
            return protocol.success()
        if isinstance(request, protocol.SignRequest):
            answer = await self.ask(Sign(item.handle, "{}", tuple(binds), (), request.data, request.flags))
            if isinstance(answer, SignOk):
                return protocol.signature(answer.signature)
            assert isinstance(answer, Deny)
            self.denials.append(answer)
        return protocol.failure()


class BrokerWorld:
    """Folders of one broker and the policy in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = BrokerPaths(folder / "etc", folder / "state", folder / "log", folder / "run")
        for path in (self.paths.config_dir, self.paths.state_dir, self.paths.log_dir):
            path.mkdir()
        self.identity = make_identity(self.paths.state_dir, "broker")
        self.relay = StandInRelay(make_identity(folder, "relay"))
        self.pins = [self.relay.identity.pin]
        self.policy: dict[str, Any] = {"version": 1, "factories": {}, "handles": {}}

    def add_key(self, name: str, kind: str = "ed25519", **more: Any) -> PublicKey:
        """Add an entry with a new key that may log in at site.example.org as `pilot`."""
        file = self.paths.config_dir / name
        key = make_ssh_key(file, kind)
        host_key = parse_public_key(HOST.blob).authorized
        self.policy["handles"][name] = {
            "key": {"backend": "ssh-agent", "file": str(file)},
            "user": "pilot",
            "hosts": [{"name": "site.example.org", "keys": [host_key]}],
            "factories": ["fact"],
            "rate": {"burst": 1000, "per_hour": 3600},
            **more,
        }
        return key

    def write_policy(self, port: int = 1) -> None:
        fact = {"relay": f"127.0.0.1:{port}", "spki": self.pins, "source_addresses": ["127.0.0.0/8"]}
        self.policy["factories"].setdefault("fact", fact)
        self.paths.policy.write_text(json.dumps(self.policy, indent=1))
        self.paths.policy.chmod(0o640)

    def audit(self) -> list[dict[str, Any]]:
        """Records of the audit log."""
        file = self.paths.log_dir / "audit.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def status(self, *names: str) -> Any:
        """A value in the status file; None before it is written."""
        try:
            found: Any = read_status(self.paths.status, self.paths.pid)
        except BrokerError:
            return None
        for name in names:
            found = found[name]
        return found

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[StandInRelay]:
        """The relay's stand-in, and a policy that names its port."""
        known = self.identity.spki_der
        identity = self.relay.identity
        server = await listen("127.0.0.1", 0, identity, lambda spki: spki == known, self.relay.connected, name="relay")
        self.write_policy(server.port)
        try:
            yield self.relay
        finally:
            server.close()
            await server.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Broker, StandInRelay]]:
        """A broker in this process that has made its first offer."""
        async with self.listening() as relay:
            broker = Broker(self.paths)
            task = asyncio.ensure_future(broker.run())
            try:
                await until(lambda: task.done() or (bool(relay.offers) and broker.keys_tried))
                if task.done():
                    await task
                yield broker, relay
            finally:
                broker.stop()
                await task


def children() -> list[tuple[int, list[str]]]:
    """Pid and arguments of the living children of this process."""
    found = []
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(OSError):
            found.append((int(child), Path(f"/proc/{child}/cmdline").read_text().split("\0")[:-1]))
    return found
