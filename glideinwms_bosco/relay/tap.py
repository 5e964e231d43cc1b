# SPDX-License-Identifier: Apache-2.0
"""`gwms-ssh-tap`, a ProxyCommand that reads the server's side of the first key exchange along and changes nothing.

An ssh older than 8.9 does not tell its agent where it connects to. What the server proves in clear goes to the relay
before ssh gets to see it, so it is always there when ssh asks for its signature. A tap that lies causes a refusal and
nothing else: the broker verifies what it hands on.

A ProxyCommand makes ssh look for no ProxyJump. So the tap asks `ssh -G` whether the factory's configuration has a
jump host for this login, and then reaches the server through `ssh -W`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, BoscoError, RelayError, WireError
from glideinwms_bosco.relay import handover
from glideinwms_bosco.relay.status_query import PREFIX, ask
from glideinwms_bosco.sshwire.agent import evidence_request
from glideinwms_bosco.sshwire.kex import KexReader

CONNECT_TIMEOUT_S = 20.0
SSH_QUERY_S = 10.0
PIECE_BYTES = 1 << 20
# fcntl(2); the module names it from Python 3.10 on.
F_SETPIPE_SZ = 1031
KEX_PIECE_BYTES = 65536
USAGE = "usage: gwms-ssh-tap HOST PORT SOCKET [USER@NAME]"
HELP = f"""{USAGE}

ProxyCommand of ssh clients older than 8.9; the relay's ssh configuration names it, nobody calls it by hand.
SOCKET is the handle's agent socket; USER@NAME the login whose jump host is looked up.

example: ssh -o 'ProxyCommand=gwms-ssh-tap %h %p /run/gwms-ssh-relay/HANDLE.sock' pilot@login.example.org"""

_STDIN, _STDOUT = 0, 1


@dataclass(frozen=True)
class Stream:
    """The two ends of the way to the server; `connection` is the TCP connection, if it is one."""

    read: int
    write: int
    connection: Optional[socket.socket] = None

    def finish_writing(self) -> None:
        """Tell the server that nothing more comes."""
        try:
            if self.connection is None:
                os.close(self.write)
            else:
                self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def connect(host: str, port: int) -> Stream:
    """Reach the server by TCP.

    Raises:
        RelayError: nobody answers.
    """
    try:
        connection = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
    except OSError as err:
        raise RelayError(f"{host} port {port}: {err.strerror or err}") from None
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return Stream(connection.fileno(), connection.fileno(), connection)


def jump_of(ssh: str, factory_conf: Path, login: str) -> Optional[str]:
    """The ProxyJump that the factory's configuration has for `user@name`; None without one.

    Raises:
        RelayError: ssh does not tell.
    """
    argv = [ssh, "-G", "-F", str(factory_conf), login]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SSH_QUERY_S)
    except (OSError, subprocess.SubprocessError) as err:
        raise RelayError(f"{ssh} -G does not run: {err}") from None
    if done.returncode != 0:
        raise RelayError(f"{factory_conf}: {' '.join(done.stderr.split())}", "see ssh_include in relay.conf")
    jumps = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("proxyjump ")]
    return jumps[0] if jumps and jumps[0] != "none" else None


def jump_argv(ssh: str, conf: Path, jump: str, host: str, port: int) -> list[str]:
    """The ssh that reaches the server through jump hosts; the last one is logged in to.

    Args:
        conf: the handle's own configuration, which has the jump host's handle too.
        jump: `[user@]host[:port]`, several separated by commas, as `ssh -G` prints them.
    """
    before, _, last = jump.rpartition(",")
    user, _, place = last.rpartition("@")
    name, colon, number = place.rpartition(":")
    if not colon or place.endswith("]"):
        name, number = place, ""
    bare = name[1:-1] if name.startswith("[") else name
    target = f"[{host}]:{port}"
    return [
        ssh, "-F", str(conf),
        *(["-J", before] if before else []),
        *(["-l", user] if user else []),
        *(["-p", number] if number else []),
        "-W", target, "--", bare,
    ]  # fmt: skip


def open_jump(argv: Sequence[str]) -> Stream:
    """Start the ssh to the jump host.

    Raises:
        RelayError: it cannot be run.
    """
    try:
        # It ends by itself when our side of its standard input closes.
        child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except OSError as err:
        raise RelayError(f"{argv[0]}: {err.strerror}") from None
    assert child.stdin is not None and child.stdout is not None  # noqa: S101 - both are PIPE
    stream = Stream(os.dup(child.stdout.fileno()), os.dup(child.stdin.fileno()))
    # The copies must be the only ones, or closing one would not reach the child.
    child.stdin.close()
    child.stdout.close()
    return stream


def write_all(target: int, data: bytes) -> None:
    """Write everything; a pipe may take it in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def copy(source: int, target: int) -> None:
    """Copy until the end.

    Not by splice(2): while it waits for the socket it holds the lock of the pipe, and ssh at the pipe's other end
    waits for that lock instead of reading what is there.
    """
    while data := os.read(source, PIECE_BYTES):
        write_all(target, data)


def widen(pipe: int) -> None:
    """Make a pipe as large as one piece; a user's limit of pipe memory may say no."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, F_SETPIPE_SZ, PIECE_BYTES)


def read_key_exchange(source: int, target: int, socket_file: Path, ssh_pid: int) -> None:
    """Pass the server's first packets on; what proves the host key goes to the relay before ssh may see it."""
    reader = KexReader()
    while not reader.done:
        data = os.read(source, KEX_PIECE_BYTES)
        for found in reader.feed(data):
            try:
                ask(socket_file, evidence_request(found.host_key, found.signature, ssh_pid))
            except (OSError, WireError) as err:
                # ssh goes on; without proof the broker refuses, and its reason is printed then.
                print(f"{PREFIX} the relay does not take the host's proof: {err}", file=sys.stderr)
        if not data:
            return
        write_all(target, data)


def _client_to_server(stream: Stream) -> None:
    try:
        copy(_STDIN, stream.write)
    except OSError:
        # The server has gone; the other direction notices and ends the tap.
        pass
    stream.finish_writing()


def _run(host: str, port: int, socket_file: Path, login: Optional[str]) -> None:
    ssh = os.environ.get(handover.SSH) or handover.DEFAULT_SSH
    # ssh starts a ProxyCommand with exec: the parent is the ssh whose agent connection the evidence is for.
    ssh_pid = os.getppid()
    jump = jump_of(ssh, socket_file.with_name(handover.FACTORY_CONF), login) if login else None
    conf = socket_file.with_suffix(".conf")
    stream = open_jump(jump_argv(ssh, conf, jump, host, port)) if jump else connect(host, port)
    for pipe in (_STDIN, _STDOUT):
        widen(pipe)
    threading.Thread(target=_client_to_server, args=(stream,), daemon=True).start()
    try:
        read_key_exchange(stream.read, _STDOUT, socket_file, ssh_pid)
        copy(stream.read, _STDOUT)
    except OSError as err:
        if err.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


def main() -> None:
    """Entry point; the status only matters when the server is never reached."""
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(HELP)
        sys.exit(EXIT_OK)
    if len(arguments) not in (3, 4) or not arguments[1].isdecimal():
        print(USAGE, file=sys.stderr)
        sys.exit(EXIT_USAGE)
    try:
        _run(arguments[0], int(arguments[1]), Path(arguments[2]), arguments[3] if len(arguments) == 4 else None)
    except BoscoError as err:
        print(f"{PREFIX} {err}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    except OSError as err:
        print(f"{PREFIX} {err.strerror or err}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    # The thread that waits for ssh's side cannot be woken; nothing is left to flush.
    os._exit(0)


if __name__ == "__main__":
    main()
