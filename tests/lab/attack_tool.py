# SPDX-License-Identifier: Apache-2.0
"""What an attacker runs in a lab host: it carries bytes to sockets, builds none, and is asked by `attacker.py`.

One JSON object per line in, one out. Keys of others that it uses are those that root of that host could read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import LinkError, WireError
from glideinwms_bosco.link import messages
from glideinwms_bosco.link.connection import LinkConnection, Server, dial, listen
from glideinwms_bosco.link.tls import ALPN, Identity, load_identity, make_identity
from glideinwms_bosco.sshwire import agent

DEADLINE_S = 20.0
_SSH_OPTIONS = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "PreferredAuthentications=publickey", "-o", "ConnectTimeout=10"),
)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))


class FakeAgent:
    """An ssh agent that lists one public key, notes what it is asked to sign, and signs nothing."""

    def __init__(self, key_blob: bytes) -> None:
        self.asked: dict[str, Any] = {}
        self._key_blob = key_blob

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, WireError):
            while True:
                answer = self._answer(agent.parse_request(await _read_message(reader)))
                writer.write(len(answer).to_bytes(4, "big") + answer)
        writer.close()

    def _answer(self, request: agent.Request) -> bytes:
        if isinstance(request, agent.SessionBind):
            self.asked["bind"] = request.body.hex()
            return agent.success()
        if isinstance(request, agent.ListIdentities):
            return agent.identities([(self._key_blob, "wanted")])
        if isinstance(request, agent.SignRequest):
            self.asked.update(data=request.data.hex(), flags=request.flags)
        return agent.failure()


class Tool:
    """The commands; each takes the values of a line and returns what goes back."""

    def __init__(self) -> None:
        self._server: Optional[Server] = None
        self._link: Optional[LinkConnection] = None
        self._offer: Optional[messages.Offer] = None

    async def pid(self) -> int:
        """The process id that a socket's other end sees."""
        return os.getpid()

    async def talk(self, path: str, sent: list[str]) -> list[Optional[str]]:
        """Send agent messages over one connection; the answers, None where the connection was closed instead."""
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as err:
            return [type(err).__name__]
        answers: list[Optional[str]] = []
        try:
            for body in map(bytes.fromhex, sent):
                writer.write(len(body).to_bytes(4, "big") + body)
                answers.append((await _read_message(reader)).hex())
        except (OSError, asyncio.IncompleteReadError):
            answers.append(None)
        finally:
            writer.close()
        return answers

    async def login(self, key: str, where: str) -> dict[str, Any]:
        """Begin a real login by a real ssh, up to the signature; the session-bind and the data to be signed."""
        fake = FakeAgent(bytes.fromhex(key))
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/agent"
            server = await asyncio.start_unix_server(fake.serve, path)
            argv = ["ssh", *_SSH_OPTIONS, "-o", f"IdentityAgent={path}", where, "true"]
            child = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
            _, said = await child.communicate()
            server.close()
        return {**fake.asked, "ssh": said.decode("utf-8", "replace")}

    async def identity(self, folder: str, name: str) -> str:
        """Make a TLS key of the attacker's own; its pin."""
        return make_identity(Path(folder), name).pin

    async def listen(self, base: str, port: int) -> None:
        """Wait for brokers in place of a relay, with its TLS key or with another one."""

        def connected(connection: LinkConnection) -> None:
            connection.on_request = self._take_offer
            self._link = connection

        self._server = await listen("0.0.0.0", port, _identity(base), lambda _: True, connected, name="relay")  # noqa: S104

    async def _take_offer(self, request: messages.Request) -> messages.Answer:
        assert isinstance(request, messages.Offer)
        self._offer = request
        return messages.OfferAck(tuple(messages.OfferResult(item.handle, 0) for item in request.items))

    async def offer(self) -> Optional[str]:
        """The newest offer of the broker that has come; None before it."""
        standing = self._link is not None and self._link.failure is None
        return self._offer.body().hex() if standing and self._offer else None

    async def hang_up(self) -> None:
        """End whatever this has begun."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        elif self._link is not None:
            self._link.close("bye")
            await self._link.wait_closed()
        self._server = self._link = self._offer = None

    async def dial(self, base: str, host: str, port: int, pin: str) -> Optional[str]:
        """Connect to a relay as a broker; None, or why it was not to be."""
        try:
            self._link = await dial(host, port, _identity(base), (pin,), name="broker")
            # The relay judges after the client believes to be through: an answered request says that it may stay.
            await self._link.request(messages.Offer(1, ()), DEADLINE_S)
        except LinkError as err:
            return str(err)
        return None

    async def ask(self, type: int, body: str) -> dict[str, Any]:
        """Send a request over the link; type and body of the answer."""
        if self._link is None:
            return {"lost": "there is no link"}
        try:
            message = messages.parse(type, 1, bytes.fromhex(body))
            assert isinstance(message, (messages.Offer, messages.Sign))
            answer = await self._link.request(message, DEADLINE_S)
        except LinkError as err:
            return {"lost": str(err)}
        return {"type": answer.TYPE, "body": answer.body().hex()}

    async def tls(self, host: str, port: int, base: Optional[str] = None, old: bool = False) -> str:
        """Connect by TLS as given and listen: what came of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([ALPN])
        if old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        if base is not None:
            context.load_cert_chain(f"{base}.crt", f"{base}.key")
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), DEADLINE_S)
            got = await asyncio.wait_for(reader.read(1), DEADLINE_S)
        except (OSError, asyncio.TimeoutError) as err:
            return f"refused: {getattr(err, 'reason', None) or type(err).__name__}"
        writer.close()
        return "served" if got else "refused: closed"

    async def listen_old(self, base: str, port: int) -> str:
        """Wait for one client in place of a relay, with TLS 1.2 at most: what came of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([ALPN])
        context.load_cert_chain(f"{base}.crt", f"{base}.key")

        def serve() -> str:
            with socket.create_server(("0.0.0.0", port)) as listener:  # noqa: S104
                listener.settimeout(DEADLINE_S)
                came, _ = listener.accept()
                came.settimeout(DEADLINE_S)
                try:
                    context.wrap_socket(came, server_side=True).close()
                except OSError as err:
                    return f"refused: {getattr(err, 'reason', None) or type(err).__name__}"
                return "served"

        return await asyncio.get_running_loop().run_in_executor(None, serve)


def _identity(base: str) -> Identity:
    return load_identity(Path(f"{base}.crt"), Path(f"{base}.key"))


async def _serve() -> None:
    tool = Tool()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        values = json.loads(line)
        command: Callable[..., Awaitable[Any]] = getattr(tool, values.pop("do"))
        print(json.dumps(await command(**values)), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
