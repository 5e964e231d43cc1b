# SPDX-License-Identifier: Apache-2.0
"""What ssh asks an agent for at a login, made by the thousand and timed. Any agent will do."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.keys import PublicKey, signature_algorithms, verify
from glideinwms_bosco.sshwire.primitives import string, text, uint32
from glideinwms_bosco.sshwire.userauth import build_userauth
from tests.bench.figures import BenchError

DEADLINE_S = 20.0
SESSION_ID_BYTES = 64
_LENGTH_BYTES = 4
_CHUNK_BYTES = 65536


class HostKey:
    """A site's ed25519 host key."""

    def __init__(self) -> None:
        self._private = ed25519.Ed25519PrivateKey.generate()
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.blob = text("ssh-ed25519") + string(raw)

    def sign(self, session_id: bytes) -> bytes:
        """The signature of a key exchange."""
        return text("ssh-ed25519") + string(self._private.sign(session_id))


@dataclass(frozen=True)
class Login:
    """What one ssh sends to its agent, each with its length in front.

    Attributes:
        data: what is to be signed.
    """

    key: PublicKey
    data: bytes
    bind: bytes
    listing: bytes
    sign: bytes

    def check(self, answer: bytes) -> None:
        """See that the answer to `sign` is a signature that holds.

        Raises:
            BenchError: it is not.
        """
        try:
            verify(self.key, agent.parse_signature(answer), self.data)
        except WireError as error:
            raise BenchError(f"no signature: {error}") from error


def make_logins(key: PublicKey, user: str, host: HostKey, count: int) -> list[Login]:
    """Logins to one host, each of a session of its own, as a client and server of OpenSSH >= 8.9 make them."""
    algorithm = signature_algorithms(key)[0]
    flags = {"rsa-sha2-512": agent.SSH_AGENT_RSA_SHA2_512}.get(algorithm, 0)
    made = []
    for _ in range(count):
        session_id = os.urandom(SESSION_ID_BYTES)
        bind = agent.bind_request(host.blob, session_id, host.sign(session_id))
        data = build_userauth(session_id, user, algorithm, key.blob, host.blob)
        bodies = (bind, agent.list_request(), agent.sign_request(key.blob, data, flags))
        made.append(Login(key, data, *(uint32(len(body)) + body for body in bodies)))
    return made


class Connection:
    """A connection to an agent, one message at a time."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(str(path))
        self._buffer = b""

    def send(self, message: bytes) -> None:
        """Send a message that has its length in front."""
        self.socket.sendall(message)

    def take(self) -> bytes:
        """Read what has come; return an answer if it is whole, else nothing.

        Raises:
            BenchError: the agent has closed the connection.
        """
        data = self.socket.recv(_CHUNK_BYTES)
        if not data:
            raise BenchError("the agent closed the connection")
        self._buffer += data
        if len(self._buffer) < _LENGTH_BYTES:
            return b""
        end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if len(self._buffer) < end:
            return b""
        answer, self._buffer = self._buffer[_LENGTH_BYTES:end], self._buffer[end:]
        return answer

    def ask(self, message: bytes) -> bytes:
        """Send and wait for the answer."""
        self.send(message)
        answer = b""
        while not answer:
            answer = self.take()
        return answer

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def signatures(path: Path, login: Login, count: int) -> list[float]:
    """Ask one after the other over one connection, bound before; return the times (s)."""
    connection = Connection(path)
    try:
        connection.ask(login.bind)
        login.check(connection.ask(login.sign))
        times = []
        for _ in range(count):
            began = time.perf_counter()
            answer = connection.ask(login.sign)
            times.append(time.perf_counter() - began)
            _is_signature(answer)
        return times
    finally:
        connection.close()


def full_logins(path: Path, logins: Sequence[Login]) -> list[float]:
    """Do for each login what ssh does: connect, bind, list, sign, close; return the times (s)."""
    times = []
    for login in logins:
        began = time.perf_counter()
        connection = Connection(path)
        connection.ask(login.bind)
        connection.ask(login.listing)
        answer = connection.ask(login.sign)
        connection.close()
        times.append(time.perf_counter() - began)
        login.check(answer)
    return times


def signatures_per_s(path: Path, logins: Sequence[Login], count: int) -> float:
    """Keep one request outstanding on each of as many connections as there are logins; they are bound before."""
    connections = [Connection(path) for _ in logins]
    for connection, login in zip(connections, logins):
        connection.ask(login.bind)
    each = count // len(logins)
    clients = zip(connections, (repeat(login.sign, each) for login in logins))
    return each * len(logins) / _drive(clients, len(logins))


def logins_per_s(path: Path, logins: Sequence[Login], at_once: int) -> float:
    """Do for each login what ssh does, some at once."""
    clients = ((Connection(path), iter((login.bind, login.listing, login.sign))) for login in logins)
    return len(logins) / _drive(clients, at_once)


def _drive(clients: Iterator[tuple[Connection, Iterator[bytes]]], at_once: int) -> float:
    """Let clients send their messages, each when the one before is answered; the next client comes when one is done.

    Returns:
        How long all took (s).

    Raises:
        BenchError: the last answer to one was no signature, or none came.
    """
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:

        def start() -> None:
            for connection, messages in islice(clients, 1):
                connection.send(next(messages))
                selector.register(connection.socket, selectors.EVENT_READ, (connection, messages))

        for _ in range(at_once):
            start()
        while selector.get_map():
            ready = selector.select(DEADLINE_S)
            if not ready:
                raise BenchError(f"the agent has not answered within {DEADLINE_S:g} s")
            for key, _ in ready:
                connection, messages = key.data
                answer = connection.take()
                if not answer:
                    continue
                message = next(messages, None)
                if message is not None:
                    connection.send(message)
                    continue
                _is_signature(answer)
                selector.unregister(connection.socket)
                connection.close()
                start()
    return time.perf_counter() - began


def _is_signature(answer: bytes) -> None:
    try:
        agent.parse_signature(answer)
    except WireError as error:
        raise BenchError(f"no signature: {error}") from error
