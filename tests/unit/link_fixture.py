# SPDX-License-Identifier: Apache-2.0
"""Real TLS over loopback for tests of the link: a broker and a relay, or one of them against raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, TypeVar

from glideinwms_bosco.link import frames, messages
from glideinwms_bosco.link.connection import Handler, Limits, LinkConnection, Server, dial, listen
from glideinwms_bosco.link.messages import Answer, Hello, Message, Sign, SignOk
from glideinwms_bosco.link.tls import Identity, make_identity, server_context

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
TEST_DEADLINE_S = 5.0
SIGN = Sign("a" * 26, "{}", (), (), b"data")


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; end it when it hangs; no task may be left of it."""

    async def bounded() -> T:
        result = await asyncio.wait_for(test, TEST_DEADLINE_S)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left: {left}"
        return result

    return asyncio.run(bounded())


@dataclass(frozen=True)
class Ends:
    """The identities of one test."""

    relay: Identity
    broker: Identity
    stranger: Identity


def make_ends(folder: Path) -> Ends:
    """Three identities; the stranger calls itself broker, too."""
    (folder / "elsewhere").mkdir()
    stranger = make_identity(folder / "elsewhere", "broker")
    return Ends(make_identity(folder, "relay"), make_identity(folder, "broker"), stranger)


async def answer_sign(_message: Sign) -> Answer:
    """A broker that signs everything."""
    return SignOk(b"signature")


class Relay:
    """A listening relay that remembers who came."""

    def __init__(self) -> None:
        self.server: Optional[Server] = None
        self.came: asyncio.Queue[LinkConnection] = asyncio.Queue()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self.server is not None
        return self.server.port

    async def settled(self) -> None:
        """Return when no peer is at the door or connected any more."""
        assert self.server is not None
        await asyncio.gather(*self.server._tasks.values(), return_exceptions=True)


@contextlib.asynccontextmanager
async def relay_of(
    ends: Ends,
    identity: Optional[Identity] = None,
    limits: Optional[Limits] = None,
    on_request: Optional[Handler] = None,
    lookup: Optional[Callable[[bytes], bool]] = None,
) -> AsyncIterator[Relay]:
    """A relay that knows `ends.broker`."""
    relay = Relay()

    def on_connection(connection: LinkConnection) -> None:
        connection.on_request = on_request
        relay.came.put_nowait(connection)

    def registered(spki: bytes) -> bool:
        return spki == ends.broker.spki_der

    relay.server = await listen(
        LOOPBACK,
        0,
        identity or ends.relay,
        lookup or registered,
        on_connection,
        name="relay.example.org",
        limits=limits,
    )
    try:
        yield relay
    finally:
        relay.server.close()
        await relay.server.wait_closed()


@contextlib.asynccontextmanager
async def link_of(
    ends: Ends,
    on_sign: Handler = answer_sign,
    relay_limits: Optional[Limits] = None,
    broker_limits: Optional[Limits] = None,
    on_offer: Optional[Handler] = None,
) -> AsyncIterator[tuple[LinkConnection, LinkConnection]]:
    """A pair: the broker's end, the relay's end."""
    async with relay_of(ends, limits=relay_limits, on_request=on_offer) as relay:
        broker = await dial_to(relay.port, ends, on_request=on_sign, limits=broker_limits)
        try:
            yield broker, await relay.came.get()
        finally:
            broker.close()
            await broker.wait_closed()


async def dial_to(
    port: int,
    ends: Ends,
    pins: Optional[Collection[str]] = None,
    identity: Optional[Identity] = None,
    on_request: Optional[Handler] = None,
    limits: Optional[Limits] = None,
) -> LinkConnection:
    """Dial as the broker, expecting the relay's pin unless told otherwise."""
    return await dial(
        LOOPBACK,
        port,
        identity or ends.broker,
        [ends.relay.pin] if pins is None else pins,
        name="frontend.example.org",
        on_request=on_request,
        limits=limits,
    )


def frame(message: Message, rid: int = 0) -> bytes:
    """A message as it is on the wire."""
    return frames.encode(message.TYPE, rid, message.body())


def hello(ahead_s: float = 0.0, version_min: int = 1, version_max: int = 1) -> bytes:
    """A HELLO frame of a peer whose clock is ahead."""
    now_ms = int((time.time() + ahead_s) * 1000)
    return frame(Hello("raw", "test", now_ms, (), version_min, version_max))


class RawPeer:
    """One end of a TLS stream that sends what the test says, and reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._decoder = frames.Decoder()
        self._frames: list[frames.Frame] = []

    def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)

    async def next(self) -> Message:
        """The next message of the other end."""
        while not self._frames:
            data = await self.reader.read(65536)
            assert data, "the stream ended"
            self._frames = self._decoder.feed(data)
        first = self._frames.pop(0)
        return messages.parse(first.type, first.rid, first.body)

    async def next_of(self, kind: type[T]) -> T:
        """The next message of a kind; others are passed over."""
        while True:
            message = await self.next()
            if isinstance(message, kind):
                return message

    async def ended(self) -> bytes:
        """What is left until the other end closes, in good order or not."""
        try:
            return await self.reader.read()
        except OSError:
            return b""

    def cut(self) -> None:
        """End without a word."""
        self.writer.transport.abort()


async def raw_client(port: int, context: Optional[ssl.SSLContext]) -> RawPeer:
    """Connect to a relay, with TLS or without."""
    return RawPeer(*await asyncio.open_connection(LOOPBACK, port, ssl=context))


@contextlib.asynccontextmanager
async def raw_relay(
    ends: Ends, talk: Callable[[RawPeer], Awaitable[None]], context: Optional[ssl.SSLContext] = None
) -> AsyncIterator[int]:
    """A relay that does what `talk` does, for one connection; yields its port."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = RawPeer(reader, writer)
        try:
            await talk(peer)
        finally:
            peer.cut()
            done.set()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context or server_context(ends.relay))
    try:
        yield server.sockets[0].getsockname()[1]
        await done.wait()
    finally:
        server.close()
        await asyncio.sleep(0)
