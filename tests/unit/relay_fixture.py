# SPDX-License-Identifier: Apache-2.0
"""A real relay in a thread, and a stand-in broker that dials it over the real link and signs with a key in memory.

The stand-in decides nothing: it signs whatever it is asked for unless a test gives it another answer. What it was
asked stays in `asked`.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, TypeVar

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glideinwms_bosco.link.connection import LinkConnection, dial
from glideinwms_bosco.link.messages import Answer, Offer, OfferAck, OfferItem, Request, Sign, SignOk
from glideinwms_bosco.link.tls import Identity, make_identity
from glideinwms_bosco.relay.conf import RelayConf, load_conf
from glideinwms_bosco.relay.service import Relay
from glideinwms_bosco.sshwire.handle import SUBMIT, HandleReference, handle_id, make_handle_key, spki_pin
from glideinwms_bosco.sshwire.primitives import string, text

T = TypeVar("T")
WAIT_S = 10.0


class SigningKey:
    """An ed25519 user key that lives in memory only."""

    def __init__(self) -> None:
        self._private = ed25519.Ed25519PrivateKey.generate()
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.blob = text("ssh-ed25519") + string(raw)

    def sign(self, data: bytes) -> bytes:
        return text("ssh-ed25519") + string(self._private.sign(data))


def offer_item(identity: Identity, key: SigningKey, known_hosts: str, hosts: str, user: str, **other: Any) -> OfferItem:
    purpose = other.pop("purpose", SUBMIT)
    item = OfferItem(
        handle=handle_id(identity.spki_der, key.blob, purpose), pubkey_blob=key.blob, anchor=key.blob, cert_blob=b"",
        comment="",
        purpose=purpose, user=user, hosts=hosts, known_hosts_text=known_hosts,
    )  # fmt: skip
    return replace(item, **other)


@dataclass
class FakeBroker:
    """A broker's end of the link; its methods run in the relay's event loop."""

    identity: Identity
    keys: dict[str, SigningKey] = field(default_factory=dict)
    items: list[OfferItem] = field(default_factory=list)
    asked: list[Sign] = field(default_factory=list)
    answer: Optional[Callable[[Sign], Awaitable[Answer]]] = None
    link: Optional[LinkConnection] = None

    @property
    def pin(self) -> str:
        return self.identity.pin

    def add(self, known_hosts: str, hosts: str, user: str, **other: Any) -> str:
        """Make a key and a handle for it; it is offered with the next `offer`."""
        key = SigningKey()
        item = offer_item(self.identity, key, known_hosts, hosts, user, **other)
        self.keys[item.handle] = key
        self.items.append(item)
        return item.handle

    async def connect(self, port: int, relay_pin: str) -> OfferAck:
        self.link = await dial("127.0.0.1", port, self.identity, [relay_pin], name="fake", on_request=self._asked)
        return await self.offer()

    async def offer(self) -> OfferAck:
        assert self.link is not None
        answer = await self.link.request(Offer(1, tuple(self.items)), WAIT_S)
        assert isinstance(answer, OfferAck)
        return answer

    async def leave(self) -> None:
        if self.link is not None:
            self.link.close()
            await self.link.wait_closed()
            self.link = None

    async def _asked(self, request: Request) -> Answer:
        assert isinstance(request, Sign)
        self.asked.append(request)
        if self.answer is not None:
            return await self.answer(request)
        return SignOk(self.keys[request.handle].sign(request.data))

    def handle_file(self, path: Path, handle: str, pin: Optional[str] = None) -> Path:
        """Write the credential file of a handle."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make_handle_key(HandleReference(handle, pin or spki_pin(self.identity.spki_der)))[0])
        path.chmod(0o600)
        return path


@dataclass
class RelayHost:
    """A factory host: relay.conf, a running relay and folders for credentials, all below one directory.

    Attributes:
        sockets: elsewhere, as a socket's path must be short.
    """

    directory: Path
    conf_file: Path
    identity: Identity
    sockets: Path
    relay: Optional[Relay] = None
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @property
    def conf(self) -> RelayConf:
        return load_conf(self.conf_file)

    def credentials(self, broker: str) -> Path:
        return self.directory / "proxies" / f"user_{broker}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the relay's event loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S * 3)

    def write_conf(self, brokers: dict[str, FakeBroker], **other: Any) -> None:
        data = {
            "version": 1, "listen": "127.0.0.1", "port": 8620, "identity": str(self.directory / "relay"),
            "socket_dir": str(self.sockets), "allowed_uids": [os.getuid()], "sign_deadline_s": 5,
            "shim_dir": str(self.directory / "shim"), "ssh_include": [str(self.directory / "factory_ssh_config")],
            "brokers": [
                {"name": name, "frontend": f"frontend of {name}", "spki": [broker.pin],
                 "credential_paths": [str(self.credentials(name))]}
                for name, broker in brokers.items()
            ],
            **other,
        }  # fmt: skip
        self.conf_file.write_text(json.dumps(data, indent=1))

    def start(self) -> None:
        async def begin() -> Relay:
            # Any free port: the schema has no 0, the daemon takes it.
            relay = Relay(replace(self.conf, port=0))
            await relay.start()
            return relay

        self.relay = self.run(begin())

    @property
    def port(self) -> int:
        assert self.relay is not None
        return self.relay.port

    def connect(self, broker: FakeBroker) -> OfferAck:
        return self.run(broker.connect(self.port, self.identity.pin))

    def status(self) -> dict[str, Any]:
        assert self.relay is not None
        return self.relay.status()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Look at the relay's state until it is as it should be."""
        ends_at = time.monotonic() + WAIT_S
        while not self.run(_call(condition)):
            assert time.monotonic() < ends_at, "the relay does not get there"

    def stop(self) -> None:
        if self.relay is not None:
            self.run(self.relay.stop())
            self.relay = None


async def _call(condition: Callable[[], bool]) -> bool:
    await asyncio.sleep(0.005)
    return condition()


def fake_broker(directory: Path, name: str) -> FakeBroker:
    directory.mkdir(exist_ok=True)
    return FakeBroker(make_identity(directory, name))


@contextmanager
def relay_host(directory: Path) -> Iterator[RelayHost]:
    """Prepare a host; the caller writes relay.conf and starts the relay."""
    with tempfile.TemporaryDirectory(prefix="gwms-") as short:
        identity = make_identity(directory, "relay")
        yield from _running(RelayHost(directory, directory / "relay.conf", identity, Path(short) / "run"))


def _running(host: RelayHost) -> Iterator[RelayHost]:
    thread = threading.Thread(target=host._loop.run_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.stop()
        left = host.run(_tasks_left())
        host._loop.call_soon_threadsafe(host._loop.stop)
        thread.join(WAIT_S)
        host._loop.close()
        assert not left, f"tasks left: {left}"


async def _tasks_left() -> list[str]:
    """Tasks that nobody ended: what a broker's end has yet to notice gets a moment."""
    ends_at = time.monotonic() + WAIT_S
    while True:
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if not left or time.monotonic() > ends_at:
            return [repr(task) for task in left]
        await asyncio.sleep(0.01)
