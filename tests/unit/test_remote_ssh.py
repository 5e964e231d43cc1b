# SPDX-License-Identifier: Apache-2.0
"""A session logs in once, runs constant programs whatever the login shell is, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glideinwms_bosco.errors import (
    AuthenticationError,
    ConnectionLostError,
    HostKeyError,
    PlatformError,
    RemoteError,
    RemoteStorageError,
    UnreachableError,
)
from glideinwms_bosco.remote import ssh
from glideinwms_bosco.remote.connection import Connection
from glideinwms_bosco.remote.exchange import Output
from glideinwms_bosco.remote.program import RemoteFailure, failure_error, load_program
from glideinwms_bosco.remote.ssh import SshSession
from tests.free_port import free_port
from tests.unit.sshd_fixture import LoopbackSshd, children_of, loopback_sshd, make_key, make_sshd

__all__ = ["loopback_sshd"]

ECHO = load_program("begin.sh") + 'bosco_remote_param\nbosco_remote_say VALUE "$BOSCO_PARAM"\nbosco_remote_end 0\n'


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "condition was not met in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give sessions a place of their own and fail when one leaves something there."""
    path = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("value", ["plain", "", "$(touch x) `id` ; ' \" \\ *", "blank  blank", "ümlaut", "-n"])
def test_parameters_reach_the_program_unchanged(loopback_sshd: LoopbackSshd, value: str) -> None:
    with loopback_sshd.session() as session:
        assert session.run_script(ECHO, [value]).only("VALUE") == value


def test_program_reads_raw_data_after_parameters(loopback_sshd: LoopbackSshd) -> None:
    data = os.urandom(300_000)
    program = load_program("begin.sh") + "cat >data\nbosco_remote_end 0\n"
    counts: list[int] = []
    with loopback_sshd.session() as session:
        session.run_script(program, data=data, sent=counts.append)
    assert (loopback_sshd.home / "data").read_bytes() == data
    assert counts == sorted(counts)
    assert counts[-1] == len(data)


def test_one_login_serves_many_programs(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session:
        for number in range(3):
            assert session.run_script(ECHO, [str(number)]).only("VALUE") == str(number)
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 1


def test_one_session_at_a_time_is_enough(loopback_sshd: LoopbackSshd) -> None:
    loopback_sshd.restart("MaxSessions 1")
    with loopback_sshd.session() as session:
        session.run_script(ECHO, ["a"])
        assert session.run_script(ECHO, ["b"]).only("VALUE") == "b"


def test_drops_noise_of_the_login_shell(loopback_sshd: LoopbackSshd) -> None:
    (loopback_sshd.home / ".bashrc").write_text("echo Welcome; printf 'no newline'; echo trouble >&2\n")
    loopback_sshd.use_shell("/bin/bash", "--rcfile", str(loopback_sshd.home / ".bashrc"), "-ic")
    with loopback_sshd.session() as session:
        reply = session.run_script(ECHO, ["x"])
    assert reply.only("VALUE") == "x"
    assert "Welcome" in reply.noise


@pytest.mark.parametrize("shell", ["tcsh", "csh", "zsh", "fish", "dash", "busybox"])
def test_works_under_another_login_shell(loopback_sshd: LoopbackSshd, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    (loopback_sshd.home / ".cshrc").write_text("echo noise\n")
    loopback_sshd.use_shell(path, *(["sh"] if shell == "busybox" else []), "-c")
    with loopback_sshd.session() as session:
        assert session.run_script(ECHO, ["it's $HOME!"]).only("VALUE") == "it's $HOME!"


def test_account_without_a_shell_is_named(loopback_sshd: LoopbackSshd) -> None:
    loopback_sshd.restart("ForceCommand echo This account is currently not available.; exit 1")
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="currently not available"):
        session.run_script(ECHO, ["x"])


def test_program_that_ends_early_is_an_error(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="status 7"):
        session.run_script(load_program("begin.sh") + "exit 7\n")


def test_reported_failure_becomes_an_error(loopback_sshd: LoopbackSshd) -> None:
    program = load_program("begin.sh") + "bosco_remote_try step sh -c 'echo why; echo not >&2; exit 1'\n"
    text = f"step failed: in {loopback_sshd.home}: why not"
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match=text):
        session.run_script(program)


def test_deadline_ends_a_hanging_program(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session, pytest.raises(ConnectionLostError, match=r"no answer within 0\.5 s"):
        session.run_script(load_program("begin.sh") + "sleep 20\n", deadline_s=0.5)


def test_refuses_endless_output(loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "MAX_OUTPUT_BYTES", 10_000)
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="more than 10000 bytes"):
        session.run_script(load_program("begin.sh") + "while :; do echo KEY; done\n")


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "x" * 4097])
def test_refuses_parameter_that_is_no_line(loopback_sshd: LoopbackSshd, value: str) -> None:
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="parameter cannot be sent"):
        session.run_script(ECHO, [value])


def test_lost_connection_is_not_reopened(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session:
        session.run_script(ECHO, ["x"])
        loopback_sshd.kill_connections()
        with pytest.raises(ConnectionLostError):
            session.run_script(ECHO, ["y"])
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 1


def test_wrong_host_key_shows_fingerprint_and_next_step(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    pinned = make_key(tmp_path / "other")
    endpoint = dataclasses.replace(loopback_sshd.endpoint, host_keys=(pinned,))
    with pytest.raises(HostKeyError) as caught, SshSession(Connection(endpoint, (), loopback_sshd.key_file)):
        pass
    argv = ["ssh-keygen", "-l", "-f", str(loopback_sshd.directory / "host_key.pub")]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]
    assert shown in caught.value.message
    assert f"gwms-bosco site hostkeys 127.0.0.1 --port {loopback_sshd.port}" in caught.value.hint


def test_unknown_key_is_an_authentication_error(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    connection = Connection(loopback_sshd.endpoint, (), tmp_path / "stranger")
    with pytest.raises(AuthenticationError, match=loopback_sshd.user), SshSession(connection):
        pass


def test_unknown_user_is_an_authentication_error(loopback_sshd: LoopbackSshd) -> None:
    endpoint = dataclasses.replace(loopback_sshd.endpoint, user="no.such-user")
    with (
        pytest.raises(AuthenticationError, match=r"no\.such-user@"),
        SshSession(Connection(endpoint, (), loopback_sshd.key_file)),
    ):
        pass


def test_missing_key_file_is_named(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    with (
        pytest.raises(AuthenticationError, match="key file"),
        SshSession(Connection(loopback_sshd.endpoint, (), tmp_path / "missing")),
    ):
        pass


def test_closed_port_is_unreachable(loopback_sshd: LoopbackSshd) -> None:
    endpoint = dataclasses.replace(loopback_sshd.endpoint, port=free_port())
    with (
        pytest.raises(UnreachableError, match="refuses the connection"),
        SshSession(Connection(endpoint, (), loopback_sshd.key_file)),
    ):
        pass


def test_without_key_and_agent_nothing_is_tried(loopback_sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(AuthenticationError, match="no ssh agent"), SshSession(Connection(loopback_sshd.endpoint)):
        pass


def test_key_from_the_agent(loopback_sshd: LoopbackSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(loopback_sshd.key_file)], check=True)
        with SshSession(Connection(loopback_sshd.endpoint)) as session:
            assert session.run_script(ECHO, ["x"]).only("VALUE") == "x"
    finally:
        agent.terminate()
        agent.wait()


@pytest.fixture
def jump_sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """A second daemon, which takes the key of the first."""
    directory = tmp_path / "jump"
    directory.mkdir(mode=0o700)
    daemon = make_sshd(directory)
    try:
        yield daemon
    finally:
        daemon.stop()


def through(jump: LoopbackSshd, login: LoopbackSshd) -> Connection:
    shutil.copy(login.directory / "authorized_keys", jump.directory / "authorized_keys")
    jump.start()
    return Connection(login.endpoint, (jump.endpoint,), login.key_file)


def test_goes_through_a_jump_host(loopback_sshd: LoopbackSshd, jump_sshd: LoopbackSshd) -> None:
    with SshSession(through(jump_sshd, loopback_sshd)) as session:
        assert session.run_script(ECHO, ["x"]).only("VALUE") == "x"
    assert jump_sshd.log.read_text().count("Accepted publickey") == 1
    wait_until(lambda: not connections(jump_sshd))


def test_jump_host_with_wrong_key_is_the_one_named(
    loopback_sshd: LoopbackSshd, jump_sshd: LoopbackSshd, tmp_path: Path
) -> None:
    connection = through(jump_sshd, loopback_sshd)
    jump = dataclasses.replace(jump_sshd.endpoint, host_keys=(make_key(tmp_path / "other"),))
    with (
        pytest.raises(HostKeyError, match=f"site hostkeys 127.0.0.1 --port {jump_sshd.port}"),
        SshSession(dataclasses.replace(connection, jumps=(jump,))),
    ):
        pass


def connections(daemon: LoopbackSshd) -> list[int]:
    assert daemon.process is not None
    return children_of(daemon.process.pid)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_exception_closes_the_connection(loopback_sshd: LoopbackSshd, kind: type[BaseException]) -> None:
    with pytest.raises(kind), loopback_sshd.session():
        raise kind
    wait_until(lambda: not connections(loopback_sshd))


def test_session_broken_off_before_it_is_open_does_not_open(loopback_sshd: LoopbackSshd) -> None:
    session = loopback_sshd.session()
    session.abort()
    with pytest.raises(RemoteError, match="broken off"), session:
        raise AssertionError("it is open")


def test_killed_caller_leaves_no_connection(loopback_sshd: LoopbackSshd, runtime_directory: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from glideinwms_bosco.remote.connection import Connection, Endpoint\n"
        "from glideinwms_bosco.remote.ssh import SshSession\n"
        "host, port, user, key, file = sys.argv[1:]\n"
        "with SshSession(Connection(Endpoint(host, int(port), user, (key,)), (), Path(file))):\n"
        "    print('up', flush=True); sys.stdin.read()\n"
    )
    end = loopback_sshd.endpoint
    argv = [sys.executable, "-c", code, end.host, str(end.port), end.user, *end.host_keys, str(loopback_sshd.key_file)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert connections(loopback_sshd)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    wait_until(lambda: not connections(loopback_sshd))
    # Only a process that is not killed with SIGKILL can remove its private directory.
    for left in runtime_directory.iterdir():
        shutil.rmtree(left)


@pytest.mark.parametrize(
    ("step", "text", "kind"),
    [
        ("write", "mkdir: cannot create directory 'a': No space left on device", RemoteStorageError),
        ("write", "cp: error writing 'a': Disk quota exceeded", RemoteStorageError),
        ("write", "mkdir: cannot create directory 'a': Read-only file system", RemoteStorageError),
        ("write", "tar: lib/big: Wrote only 8704 of 10240 bytes", RemoteStorageError),
        ("library", "libexec/x: libcrypto.so.3 => not found", PlatformError),
        ("library", "libexec/x: /lib/ld.so: Permission denied", PlatformError),
        ("verify", "bin/x: FAILED", RemoteError),
    ],
)
def test_failed_step_has_its_error_class(step: str, text: str, kind: type[RemoteError]) -> None:
    error = failure_error(RemoteFailure(step, text), "x")
    assert type(error) is kind
    assert text in error.message


def test_startup_file_that_prints_the_input_back_is_named_in_one_line(loopback_sshd: LoopbackSshd) -> None:
    (loopback_sshd.home / ".bashrc").write_text("cat\n")
    loopback_sshd.use_shell("/bin/bash", "--rcfile", str(loopback_sshd.home / ".bashrc"), "-ic")
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="prints our program back") as caught:
        session.run_script(ECHO, ["x"])
    assert ".bashrc" in caught.value.hint
    assert str(caught.value).isprintable()
    assert "bosco_remote" not in str(caught.value)


def test_startup_file_that_swallows_the_input_is_suspected(loopback_sshd: LoopbackSshd) -> None:
    (loopback_sshd.home / ".bashrc").write_text("cat >/dev/null\n")
    loopback_sshd.use_shell("/bin/bash", "--norc", "-c", '. ~/.bashrc; eval "$0"')
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="does not run commands") as caught:
        session.run_script(ECHO, ["x"])
    assert "must not read standard input" in caught.value.hint


def test_terminal_sequences_of_the_remote_are_not_shown(loopback_sshd: LoopbackSshd) -> None:
    loopback_sshd.restart("ForceCommand printf '\\033[2Jtwo\\nlines\\007'; exit 1")
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="two lines") as caught:
        session.run_script(ECHO, ["x"])
    assert str(caught.value).isprintable()


def test_agent_that_does_not_answer_is_named(
    loopback_sshd: LoopbackSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with (
        pytest.raises(AuthenticationError, match=f"agent at {tmp_path}/gone does not answer") as caught,
        SshSession(Connection(loopback_sshd.endpoint)),
    ):
        pass
    assert "--key FILE" in caught.value.hint


@pytest.mark.parametrize("reset", [False, True])
def test_server_that_closes_after_its_banner_is_said_to_throttle(loopback_sshd: LoopbackSshd, reset: bool) -> None:
    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            # Data left unread when a socket is closed make a reset of it.
            seen = client.recv(8 if reset else 1_000_000)
            if not reset:
                # The client's banner and its first packet, in however many pieces they come.
                while len(seen) < 300 and (piece := client.recv(1_000_000)):
                    seen += piece
                client.shutdown(socket.SHUT_WR)
                while client.recv(1_000_000):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        endpoint = dataclasses.replace(loopback_sshd.endpoint, port=listener.getsockname()[1])
        with (
            pytest.raises(UnreachableError, match="closed the connection during login") as caught,
            SshSession(Connection(endpoint, (), loopback_sshd.key_file)),
        ):
            pass
        thread.join(10)
    assert "too many connections" in caught.value.hint
    assert "PerSourcePenalties" in caught.value.hint


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signal_taken_as_interrupt_leaves_nothing(loopback_sshd: LoopbackSshd, number: signal.Signals) -> None:
    """The autouse fixture looks for the private directory; a second signal comes while the session is being closed."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from glideinwms_bosco.remote import ssh\n"
        "from glideinwms_bosco.remote.connection import Connection, Endpoint\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "for name in (signal.SIGHUP, signal.SIGTERM): signal.signal(name, interrupt)\n"
        "end = ssh.end_process\n"
        "def end_with_signal(process):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    end(process)\n"
        "ssh.end_process = end_with_signal\n"
        "host, port, user, key, file = sys.argv[1:]\n"
        "try:\n"
        "    with ssh.SshSession(Connection(Endpoint(host, int(port), user, (key,)), (), Path(file))):\n"
        "        print('up', flush=True); sys.stdin.read()\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    end = loopback_sshd.endpoint
    argv = [sys.executable, "-c", code, end.host, str(end.port), end.user, *end.host_keys, str(loopback_sshd.key_file)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    child.send_signal(number)
    child.wait(20)
    child.communicate()
    assert child.returncode == 130
    wait_until(lambda: not connections(loopback_sshd))


def test_ssh_that_a_signal_ends_is_a_lost_connection(loopback_sshd: LoopbackSshd) -> None:
    """OpenSSH 8.4 gets SIGPIPE when the one that it shares a connection with goes at the wrong moment."""
    ended = Output(-signal.SIGPIPE, b"", b"", expired=False, overflow=False)
    with loopback_sshd.session() as session, pytest.raises(ConnectionLostError, match="lost the connection"):
        session._check(ended, "0" * 32, 1.0)
