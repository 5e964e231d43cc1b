# SPDX-License-Identifier: Apache-2.0
"""One unix socket per handle that speaks the ssh agent protocol to the processes of the allowed users.

Listing and binding are answered here; only a signature goes to the broker. Whoever connects is known by SO_PEERCRED.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.link.messages import Sign
from glideinwms_bosco.relay.agent_session import AgentSession, AskList, AskSign, AskStatus, Evidence
from glideinwms_bosco.relay.evidence import EvidenceStore
from glideinwms_bosco.relay.offered import OfferedHandle
from glideinwms_bosco.relay.places import MAX_OF_HANDLE, Places
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.certificate import is_certificate

SOCKET_MODE = 0o660
# sshd's LoginGraceTime; an ssh that is logged in has closed its agent connection.
IDLE_S = 120.0
_BACKLOG = MAX_OF_HANDLE
_PEER = struct.Struct("=iII")
_LENGTH_BYTES = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """What a socket needs of the relay.

    Attributes:
        wait_up: waits for the broker of a handle; returns whether it is there.
        sign: gets a signature blob, or None when it is refused.
        status: what is known of a handle.
        allowed: tells whether a user id may ask.
        places: for connections.
    """

    wait_up: Callable[[str], Awaitable[bool]]
    sign: Callable[[Sign], Awaitable[Optional[bytes]]]
    status: Callable[[str], Optional[dict[str, Any]]]
    allowed: Callable[[int], bool]
    places: Places


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a unix socket."""

    pid: int
    uid: int


class AgentServer:
    """The socket of one handle. `start` makes it, `close` removes it and ends its connections.

    Args:
        offered: the handle.
        path: where the socket is to be.
        gid: group of the socket; None leaves it the daemon's.
    """

    def __init__(self, offered: OfferedHandle, path: Path, gid: Optional[int], backend: Backend) -> None:
        self.offered = offered
        self._earlier: Optional[OfferedHandle] = None
        self._path = path
        self._gid = gid
        self._backend = backend
        self._evidence = EvidenceStore()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Optional[asyncio.AbstractServer] = None

    def offer(self, offered: OfferedHandle) -> None:
        """Serve the handle as a newer offer says. With a new key, an ssh that has read of the old one may go on."""
        if offered.key.blob != self.offered.key.blob:
            self._earlier = self.offered
        self.offered = offered

    async def start(self) -> None:
        """Make the socket; it has its final mode from the start.

        Raises:
            OSError: it cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)
            before = os.umask(0o777 & ~SOCKET_MODE)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            if self._gid is not None:
                os.chown(self._path, -1, self._gid)
            self._server = await asyncio.start_unix_server(self._accepted, sock=listener, backlog=_BACKLOG)
        except BaseException:
            listener.close()
            self._path.unlink(missing_ok=True)
            raise

    async def close(self) -> None:
        """Remove the socket and end what is connected."""
        self._path.unlink(missing_ok=True)
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer.get_extra_info("socket"))
        try:
            if not self._backend.allowed(peer.uid):
                _log.warning("handle %s: uid %d (pid %d) is not allowed", self.offered.handle, peer.uid, peer.pid)
            else:
                await self._seat(reader, writer, peer)
        except (OSError, EOFError):
            # The client went away or fell silent: nobody is left to tell.
            pass
        except asyncio.CancelledError:
            # One that does not read its answers must not hold up who closes this socket.
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _seat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        handle, pin, places = self.offered.handle, self.offered.pin, self._backend.places
        full = places.take(handle, pin)
        if full:
            _log.warning("handle %s: uid %d (pid %d) is turned away: %s are open", handle, peer.uid, peer.pid, full)
            return
        try:
            await self._serve(reader, writer, peer)
        finally:
            places.leave(handle, pin)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        offers = (self.offered, *((self._earlier,) if self._earlier else ()))
        blobs = tuple(blob for offer in offers for blob in (offer.key.blob, offer.cert_blob) if blob)
        session = AgentSession(self.offered.handle, blobs)
        with _Idle(writer.transport) as idle:
            while True:
                size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
                if not 1 <= size <= agent.MAX_MESSAGE_BYTES:
                    return
                answer = await self._answer(session, await reader.readexactly(size), peer)
                writer.write(len(answer).to_bytes(_LENGTH_BYTES, "big") + answer)
                await writer.drain()
                idle.touch()

    async def _answer(self, session: AgentSession, body: bytes, peer: Peer) -> bytes:
        action = session.message(body)
        handle = self.offered.handle
        if isinstance(action, bytes):
            return action
        if isinstance(action, AskList):
            listed = [(blob, f"gwms-broker:{handle}") for blob in session.key_blobs if not is_certificate(blob)]
            return agent.identities(listed) if await self._backend.wait_up(handle) else agent.failure()
        if isinstance(action, AskSign):
            signature = await self._backend.sign(self._request(session, action, peer))
            return agent.failure() if signature is None else agent.signature(signature)
        if isinstance(action, AskStatus):
            status = self._backend.status(handle)
            return agent.failure() if status is None else agent.status_answer(json.dumps(status))
        return self._keep(action)

    def _keep(self, evidence: Evidence) -> bytes:
        now = asyncio.get_running_loop().time()
        self._evidence.add(evidence.ssh_pid, (evidence.host_key, evidence.signature), now)
        return agent.success()

    def _request(self, session: AgentSession, action: AskSign, peer: Peer) -> Sign:
        # Where a bind was tried, nothing else counts.
        now = asyncio.get_running_loop().time()
        evidence = () if session.binds else self._evidence.get(peer.pid, now)
        context = {
            "ssh_pid": peer.pid,
            "ssh_exe": _exe(peer.pid),
            "uid": peer.uid,
            "bind_attempted": bool(session.binds),
        }
        handle = self.offered.handle
        return Sign(handle, json.dumps(context), session.binds, evidence, action.data, action.flags)


class _Idle:
    """Cuts a connection that has got no answer for IDLE_S. One timer: `wait_for` would make a task for each read."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.touch()

    def __enter__(self) -> _Idle:
        self._look()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()

    def touch(self) -> None:
        """It is alive now."""
        self._touched_at = self._loop.time()

    def _look(self) -> None:
        left_s = self._touched_at + IDLE_S - self._loop.time()
        if left_s <= 0:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(left_s, self._look)


def _peer(connection: socket.socket) -> Peer:
    pid, uid, _gid = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return Peer(pid, uid)


def _exe(pid: int) -> Optional[str]:
    """Path of a process's program, where the kernel lets us see it (same user, or root)."""
    try:
        return os.readlink(f"/proc/{pid}/exe")[:256]  # noqa: PTH115 - asked for each signature, and Path is slow
    except OSError:
        return None
