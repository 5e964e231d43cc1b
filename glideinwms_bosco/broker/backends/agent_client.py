# SPDX-License-Identifier: Apache-2.0
"""Requests to an ssh agent: many at a time over a few connections, none of which waits for ever.

Each connection carries one request at a time. An ssh-agent serves its connections one after the other, so a few keep
it busy; and ssh-agent of OpenSSH 8.7 (EL9) handles one message per read, so that a second one sent behind the first
on the same connection stays unanswered until more bytes come (ssh-agent.c, handle_conn_read).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Optional, cast

from glideinwms_bosco.errors import KeyBackendError, WireError
from glideinwms_bosco.sshwire import agent as protocol

CONNECTIONS = 8
"""Enough work for the agent while we go through a batch of new requests, each some 0.2 ms of ours to its 0.5 ms."""
DEADLINE_S = 8.0
"""From the request to its answer. The relay gives up after 15 s and has to hear our refusal before that."""
_LENGTH_BYTES = 4


class AgentGoneError(KeyBackendError):
    """Nobody listens at the socket, or the connection was closed from the other side."""


def _nothing() -> None:
    pass


class _Call:
    """One request: waiting, on a channel, or settled."""

    def __init__(self, body: bytes, future: asyncio.Future[bytes], asked: float) -> None:
        self.body = body
        self.future = future
        self.asked = asked
        self.channel: Optional[_Channel] = None


class _Channel(asyncio.Protocol):
    """One connection; at most one call is on it."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._buffer = bytearray()
        self._transport: Optional[asyncio.Transport] = None
        self.call: Optional[_Call] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, call: _Call) -> None:
        """Put a call on the wire."""
        self.call = call
        call.channel = self
        if self._transport is not None:
            self._transport.write(len(call.body).to_bytes(_LENGTH_BYTES, "big") + call.body)

    def abort(self) -> None:
        """Drop the connection: an answer that came later would be taken for another request's."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < _LENGTH_BYTES:
            return
        size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        whole = _LENGTH_BYTES + size
        if self.call is None or size > protocol.MAX_MESSAGE_BYTES or len(self._buffer) > whole:
            self.abort()
        elif len(self._buffer) == whole:
            body = bytes(self._buffer[_LENGTH_BYTES:])
            self._buffer.clear()
            self._client._answered(self, body)

    def connection_lost(self, exc: Optional[Exception]) -> None:  # noqa: ARG002
        self._client._lost(self)


class AgentClient:
    """Asks the agent that listens at `path`.

    Args:
        path: the agent's socket.
        deadline_s: seconds for each request, from the call to the answer.
        connections: how many may be open at a time.
        on_silence: called when a request got no answer in `deadline_s`, nor any other one meanwhile.
    """

    def __init__(
        self,
        path: Path,
        deadline_s: float = DEADLINE_S,
        connections: int = CONNECTIONS,
        on_silence: Callable[[], None] = _nothing,
    ) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._connections = connections
        self._on_silence = on_silence
        self._waiting: deque[_Call] = deque()
        self._idle: list[_Channel] = []
        self._channels: set[_Channel] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._answered_at = 0.0

    async def identities(self) -> tuple[tuple[bytes, str], ...]:
        """The keys that the agent holds, as (public key blob, comment).

        Raises:
            KeyBackendError: no answer, or one that is none.
        """
        body = await self._ask(protocol.list_request())
        try:
            return tuple(protocol.parse_identities(body))
        except WireError as err:
            raise KeyBackendError(f"{self._path}: the agent's list of keys cannot be read: {err.message}") from None

    async def sign(self, key_blob: bytes, data: bytes, flags: int) -> bytes:
        """Get a signature.

        Raises:
            AgentGoneError: the agent is not there.
            KeyBackendError: it is silent, or refuses.
        """
        body = await self._ask(protocol.sign_request(key_blob, data, flags))
        try:
            return protocol.parse_signature(body)
        except WireError:
            hint = "the key is gone from it, or its token refuses"
            raise KeyBackendError(f"{self._path}: the agent refuses to sign", hint) from None

    async def remove(self, key_blob: bytes) -> None:
        """Have the agent drop a key or certificate.

        Raises:
            KeyBackendError: no answer, or it does not hold it.
        """
        if await self._ask(protocol.remove_request(key_blob)) != protocol.success():
            raise KeyBackendError(f"{self._path}: the agent does not drop a key")

    async def close(self) -> None:
        """Drop all connections; what is under way fails."""
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for channel in list(self._channels):
            channel.abort()
        self._fail_waiting(AgentGoneError(f"{self._path}: the agent is being stopped"))

    async def _ask(self, body: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        call = _Call(body, loop.create_future(), loop.time())
        timer = loop.call_later(self._deadline_s, self._expire, call)
        self._waiting.append(call)
        self._pump()
        try:
            return await call.future
        finally:
            timer.cancel()

    def _pump(self) -> None:
        """Give waiting calls to idle connections, and open connections while there are too few."""
        loop = asyncio.get_running_loop()
        while self._waiting and self._idle:
            call = self._waiting.popleft()
            if call.future.done():
                continue
            self._idle.pop().send(call)
        room = self._connections - len(self._channels) - len(self._connecting)
        for _ in range(min(room, len(self._waiting) - len(self._connecting))):
            task = loop.create_task(self._connect())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, channel = await loop.create_unix_connection(lambda: _Channel(self), str(self._path))
        except OSError as err:
            # With one connection up, the others' requests wait for it.
            if not self._channels:
                self._fail_waiting(AgentGoneError(f"{self._path}: no agent answers: {err.strerror or err}"))
            return
        self._channels.add(channel)
        self._idle.append(channel)
        self._pump()

    def _answered(self, channel: _Channel, body: bytes) -> None:
        call, channel.call = channel.call, None
        self._answered_at = asyncio.get_running_loop().time()
        self._idle.append(channel)
        if call is not None and not call.future.done():
            call.future.set_result(body)
        self._pump()

    def _lost(self, channel: _Channel) -> None:
        self._channels.discard(channel)
        with contextlib.suppress(ValueError):
            self._idle.remove(channel)
        call, channel.call = channel.call, None
        if call is not None and not call.future.done():
            call.future.set_exception(AgentGoneError(f"{self._path}: the agent closed the connection"))
        if self._waiting:
            self._pump()

    def _expire(self, call: _Call) -> None:
        if call.future.done():
            return
        message = f"{self._path}: the agent has not answered within {self._deadline_s:g} s"
        call.future.set_exception(KeyBackendError(message))
        if call.channel is None:
            with contextlib.suppress(ValueError):
                self._waiting.remove(call)
        else:
            call.channel.abort()
        # One request that waits for a person's touch is not an agent that hangs, as long as others are answered.
        if self._answered_at <= call.asked:
            self._on_silence()

    def _fail_waiting(self, error: KeyBackendError) -> None:
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(error)


async def held_keys(path: Path) -> tuple[tuple[bytes, str], ...]:
    """Ask an agent once for its keys.

    Raises:
        KeyBackendError: no answer.
    """
    client = AgentClient(path, connections=1)
    try:
        return await client.identities()
    finally:
        await client.close()
