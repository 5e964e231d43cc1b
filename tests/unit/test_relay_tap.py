# SPDX-License-Identifier: Apache-2.0
"""The tap between a real ssh and a real sshd: the host's proof is with the relay before ssh asks, and nothing changes.

GWMS_TEST_OLD_SSH names an ssh client older than 8.9, which sends no session-bind, if the machine's own does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.relay.handover import FACTORY_CONF
from glideinwms_bosco.relay.tap import jump_argv, jump_of
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.keys import parse_public_key, verify
from glideinwms_bosco.sshwire.userauth import parse_userauth
from tests.free_port import free_port
from tests.unit.relay_fixture import FakeBroker, RelayHost, SigningKey, fake_broker, relay_host
from tests.unit.ssh_version import HAS_SESSION_BIND, skip_unknown_key_exchange
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd, make_sshd

__all__ = ["loopback_sshd"]

PACKAGE_DIR = Path(__file__).parents[2]
OLD_SSH = os.environ.get("GWMS_TEST_OLD_SSH", "" if HAS_SESSION_BIND else "/usr/bin/ssh")


class RecordingAgent:
    """An agent that signs and writes down which process said what, in order."""

    def __init__(self, path: Path) -> None:
        self.key = SigningKey()
        self.heard: list[tuple[int, Any]] = []
        self.signs = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        pid = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        with connection:
            while head := connection.recv(4, socket.MSG_WAITALL):
                request = agent.parse_request(connection.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
                self.heard.append((pid, request))
                answer = self._answer(request)
                connection.sendall(len(answer).to_bytes(4, "big") + answer)

    def _answer(self, request: agent.Request) -> bytes:
        if isinstance(request, agent.ListIdentities):
            return agent.identities([(self.key.blob, "key")])
        if isinstance(request, agent.SignRequest) and self.signs:
            return agent.signature(self.key.sign(request.data))
        return agent.success()


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecordingAgent]:
    made = RecordingAgent(tmp_path / "agent.sock")
    yield made
    made.close()


def tap_program(directory: Path) -> Path:
    program = directory / "gwms-ssh-tap"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PACKAGE_DIR)!r})\n"
        "from glideinwms_bosco.relay.tap import main\nmain()\n"
    )
    program.chmod(0o755)
    return program


def ssh_through_tap(
    directory: Path, sshd: LoopbackSshd, *command: str, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    known = directory / "known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    options = {
        "ProxyCommand": f"{tap_program(directory)} %h %p {directory / 'agent.sock'}",
        "UserKnownHostsFile": str(known),
        "StrictHostKeyChecking": "yes",
        "IdentityAgent": str(directory / "agent.sock"),
        "IdentityFile": "none",
        "BatchMode": "yes",
    }
    argv = ["ssh", "-F", "none", "-p", str(sshd.port)]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += [f"{sshd.user}@127.0.0.1", *command]
    return subprocess.run(argv, input=data, capture_output=True, timeout=15, check=False)


def authorize(sshd: LoopbackSshd, *keys: SigningKey) -> None:
    lines = [parse_public_key(key.blob).authorized + "\n" for key in keys]
    (sshd.directory / "authorized_keys").write_text("".join(lines))


KEX = ["curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256",
       "diffie-hellman-group-exchange-sha256", "sntrup761x25519-sha512@openssh.com"]  # fmt: skip


@pytest.mark.parametrize("kex", KEX)
def test_proof_is_there_before_the_signature_is_asked_for(
    loopback_sshd: LoopbackSshd, recorder: RecordingAgent, tmp_path: Path, kex: str
) -> None:
    skip_unknown_key_exchange(kex)
    loopback_sshd.restart(f"KexAlgorithms {kex}")
    authorize(loopback_sshd, recorder.key)
    done = ssh_through_tap(tmp_path, loopback_sshd, "echo", "in")
    assert done.stdout == b"in\n", done.stderr
    kinds = [type(request).__name__ for _, request in recorder.heard]
    assert kinds[0] == "KexEvidence"
    assert kinds[-1] == "SignRequest"
    evidence = recorder.heard[0][1]
    ssh_pid, request = recorder.heard[-1]
    assert evidence.ssh_pid == ssh_pid
    session_id = parse_userauth(request.data).session_id
    verify(parse_public_key(evidence.host_key), evidence.signature, session_id)


def test_bytes_pass_unchanged_in_both_directions(
    loopback_sshd: LoopbackSshd, recorder: RecordingAgent, tmp_path: Path
) -> None:
    authorize(loopback_sshd, recorder.key)
    data = os.urandom(1 << 20) * 12
    done = ssh_through_tap(tmp_path, loopback_sshd, "cat", data=data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_relay_that_does_not_answer_is_named_and_ssh_goes_on(
    loopback_sshd: LoopbackSshd, recorder: RecordingAgent, tmp_path: Path
) -> None:
    authorize(loopback_sshd, recorder.key)
    recorder.close()
    done = ssh_through_tap(tmp_path, loopback_sshd, "true")
    assert b"GWMS-SSH-BROKER: the relay does not take the host's proof" in done.stderr
    assert b"Permission denied" in done.stderr


def run_tap(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "glideinwms_bosco.relay.tap", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_DIR)}
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False, env=environment
    )


def test_host_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    done = run_tap("127.0.0.1", str(port), str(tmp_path / "x.sock"))
    assert (done.returncode, done.stderr) == (1, f"GWMS-SSH-BROKER: 127.0.0.1 port {port}: Connection refused\n")


@pytest.mark.parametrize("arguments", [(), ("h", "22"), ("h", "x", "s"), ("h", "22", "s", "u@h", "more")])
def test_wrong_call_says_how(arguments: tuple[str, ...]) -> None:
    done = run_tap(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


def test_server_that_speaks_no_ssh_is_passed_through(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail\r\n" + bytes(range(256)) * 400)

        threading.Thread(target=speak, daemon=True).start()
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE_DIR)}
        argv = [sys.executable, "-m", "glideinwms_bosco.relay.tap", "127.0.0.1", str(port), str(tmp_path / "x.sock")]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as tap:
            assert tap.stdout is not None
            assert tap.stdout.read() == b"220 mail\r\n" + bytes(range(256)) * 400
            assert tap.wait(10) == 0


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        ("gate", ["-W", "[h]:22", "--", "gate"]),
        ("u@gate:2222", ["-l", "u", "-p", "2222", "-W", "[h]:22", "--", "gate"]),
        ("u@[::1]:2222", ["-l", "u", "-p", "2222", "-W", "[h]:22", "--", "::1"]),
        ("[::1]", ["-W", "[h]:22", "--", "::1"]),
        ("a@one:1,b@two", ["-J", "a@one:1", "-l", "b", "-W", "[h]:22", "--", "two"]),
    ],
)
def test_jump_becomes_an_ssh_to_the_last_hop(jump: str, expected: list[str]) -> None:
    assert jump_argv("ssh", Path("/c"), jump, "h", 22) == ["ssh", "-F", "/c", *expected]


def test_asks_ssh_for_the_jump_host(tmp_path: Path) -> None:
    conf = tmp_path / FACTORY_CONF
    conf.write_text("Match originalhost login user pilot\n  ProxyJump hop@gate:2222\nHost direct\n  ProxyJump none\n")
    assert jump_of("ssh", conf, "pilot@login") == "hop@gate:2222"
    assert jump_of("ssh", conf, "other@login") is None
    assert jump_of("ssh", conf, "pilot@direct") is None


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RelayHost]:
    (tmp_path / "factory").mkdir()
    with relay_host(tmp_path / "factory") as made:
        yield made


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[LoopbackSshd]:
    directory = tmp_path / "gate"
    directory.mkdir()
    daemon = make_sshd(directory)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()


def logs_in_through_jump_host(
    host: RelayHost, broker: FakeBroker, login: LoopbackSshd, gate: LoopbackSshd, **conf: Any
) -> subprocess.CompletedProcess[str]:
    """The login node is called 127.0.0.1 and the jump host localhost, as known_hosts and blocks go by name."""
    gate_place, place = f"localhost:{gate.port}", f"127.0.0.1:{login.port}"
    submit = broker.add(f"[127.0.0.1]:{login.port} {login.host_key}\n", place, login.user)
    jump = broker.add(f"[localhost]:{gate.port} {gate.host_key}\n", gate_place, gate.user)
    (host.directory / "factory_ssh_config").write_text(
        f"Match originalhost 127.0.0.1 user {login.user}\n  ProxyJump {gate.user}@{gate_place}\n  IdentitiesOnly no\n"
    )
    host.write_conf({"cms": broker}, tap_program=str(tap_program(host.directory)), **conf)
    host.start()
    host.connect(broker)
    for sshd, handle in ((login, submit), (gate, jump)):
        (sshd.directory / "authorized_keys").write_text((host.sockets / f"{handle}.pub").read_text())
    argv = [
        str(conf.get("ssh", "ssh")),
        "-F",
        str(host.sockets / f"{submit}.conf"),
        f"{login.user}@127.0.0.1",
        "echo in",
    ]
    environment = {**os.environ, "GWMS_SSH_CLIENT": str(conf.get("ssh", "/usr/bin/ssh"))}
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert sorted(request.handle for request in broker.asked) == sorted((submit, jump)), done.stderr
    return done


@pytest.mark.parametrize("tap", ["never", "always"])
def test_jump_host_of_the_factorys_configuration_is_used_with_its_own_handle(
    host: RelayHost, loopback_sshd: LoopbackSshd, gate: LoopbackSshd, tmp_path: Path, tap: str
) -> None:
    broker = fake_broker(tmp_path / "frontend", "cms")
    done = logs_in_through_jump_host(host, broker, loopback_sshd, gate, tap=tap)
    assert done.stdout == "in\n", done.stderr
    assert "Accepted publickey" in gate.log.read_text()


@pytest.mark.skipif(not OLD_SSH, reason="GWMS_TEST_OLD_SSH names no ssh client older than 8.9")
def test_old_client_proves_both_hosts_through_the_tap(
    host: RelayHost, loopback_sshd: LoopbackSshd, gate: LoopbackSshd, tmp_path: Path
) -> None:
    broker = fake_broker(tmp_path / "frontend", "cms")
    done = logs_in_through_jump_host(host, broker, loopback_sshd, gate, ssh=OLD_SSH)
    assert done.stdout == "in\n", done.stderr
    for request in broker.asked:
        assert request.binds == ()
        host_key, signature = request.evidence[-1]
        verify(parse_public_key(host_key), signature, parse_userauth(request.data).session_id)


def test_tap_starts_without_slow_libraries() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE_DIR)!r}); import glideinwms_bosco.relay.tap; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"cryptography", "yaml", "jsonschema", "asyncio", "ssl"} & set(loaded.split())
