# SPDX-License-Identifier: Apache-2.0
"""Real OpenSSH around the tests: keys of every type, certificates, an ssh-agent, and recorders in front of both ends.

Use: import the fixtures `ssh_keys` and `ssh_agent` into a test module.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from glideinwms_bosco.sshwire.primitives import string

WAIT_S = 10.0
KEY_KINDS: dict[str, tuple[str, ...]] = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa-256": ("-t", "ecdsa", "-b", "256"),
    "ecdsa-384": ("-t", "ecdsa", "-b", "384"),
    "ecdsa-521": ("-t", "ecdsa", "-b", "521"),
    "rsa-2048": ("-t", "rsa", "-b", "2048"),
    "rsa-3072": ("-t", "rsa", "-b", "3072"),
}


def keygen(*args: str) -> str:
    """Run ssh-keygen; return its output."""
    done = subprocess.run(["ssh-keygen", *args], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.stdout.decode()


def make_key_pair(path: Path, kind: str, comment: str = "") -> Path:
    keygen("-q", *KEY_KINDS[kind], "-N", "", "-C", comment, "-f", str(path))
    return path


def public_blob(key_file: Path) -> bytes:
    """The blob in the .pub file that belongs to a private key file."""
    return base64.b64decode(key_file.with_name(key_file.name + ".pub").read_text().split()[1])


def sign_certificate(ca: Path, key_file: Path, *args: str) -> bytes:
    """Have ssh-keygen certify a key; leave KEY-cert.pub beside it and return its blob."""
    keygen("-q", "-s", str(ca), *args, str(key_file.with_name(key_file.name + ".pub")))
    return public_blob(Path(f"{key_file}-cert"))


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """One key pair of every kind: private key files."""
    directory = tmp_path_factory.mktemp("ssh-keys")
    return {kind: make_key_pair(directory / kind, kind, f"{kind} key") for kind in KEY_KINDS}


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Read bytes of a connection; fewer only at its end."""
    got = b""
    while len(got) < size:
        more = connection.recv(size - len(got))
        if not more:
            break
        got += more
    return got


def receive_message(connection: socket.socket) -> bytes:
    """Read one agent message, b"" at the end of the connection."""
    head = receive_exactly(connection, 4)
    return receive_exactly(connection, int.from_bytes(head, "big")) if len(head) == 4 else b""


class RealAgent:
    """A running ssh-agent at a socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
        ends_at = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError):
                self.connect().close()
                return
            if time.monotonic() > ends_at:
                self.stop()
                pytest.fail("ssh-agent does not start")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(WAIT_S)
        try:
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        return connection

    def add(self, key_file: Path) -> None:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.path)}
        subprocess.run(["ssh-add", "-q", str(key_file)], check=True, env=environment, capture_output=True, timeout=30)

    def request(self, *bodies: bytes) -> bytes:
        """Send messages over one connection; return the answer to the last."""
        answer = b""
        with self.connect() as connection:
            for body in bodies:
                connection.sendall(string(body))
                answer = receive_message(connection)
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def ssh_agent(tmp_path_factory: pytest.TempPathFactory, ssh_keys: Mapping[str, Path]) -> Iterator[RealAgent]:
    """An ssh-agent that holds all of `ssh_keys`."""
    agent = RealAgent(tmp_path_factory.mktemp("agent") / "s")
    try:
        for key_file in ssh_keys.values():
            agent.add(key_file)
        yield agent
    finally:
        agent.stop()


class RecordingAgent:
    """A socket in front of a real agent: keeps every request it passes on."""

    def __init__(self, path: Path, agent: RealAgent) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self._agent = agent
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RecordingAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Only shutdown() wakes a thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT_S)
        self._listener.close()

    def _serve(self) -> None:
        # One client after the other, as ssh does it: it closes its agent connection when it has logged in.
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.settimeout(WAIT_S)
            with client, self._agent.connect() as behind, contextlib.suppress(OSError):
                while True:
                    body = receive_message(client)
                    if not body:
                        break
                    self.requests.append(body)
                    behind.sendall(string(body))
                    client.sendall(string(receive_message(behind)))


class RecordingPort:
    """A TCP port in front of a server, for one connection: keeps the pieces the server sent, as they came."""

    def __init__(self, address: str, port: int) -> None:
        self.pieces: list[bytes] = []
        self._target = (address, port)
        self._listener = socket.create_server((address, 0))
        self._listener.settimeout(WAIT_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RecordingPort:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT_S)
        self._listener.close()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.create_connection(self._target, WAIT_S) as server:
            client.settimeout(WAIT_S)
            forward = threading.Thread(target=self._pump, args=(client, server, []), daemon=True)
            forward.start()
            self._pump(server, client, self.pieces)
            forward.join(WAIT_S)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, kept: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while True:
                piece = source.recv(65536)
                if not piece:
                    break
                kept.append(piece)
                sink.sendall(piece)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
