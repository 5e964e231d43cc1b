# SPDX-License-Identifier: Apache-2.0
"""One authenticated ssh connection to a login node, and constant programs run over it.

A master `ssh` logs in once; each program is a session on its control socket. What travels is always the same remote
command (`BOOTSTRAP`), then on its standard input: the length of a POSIX sh program, the program, its parameters line by
line, and raw data. So no value of a site description is ever part of a shell command, and it does not matter which
login shell the account has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Optional

from glideinwms_bosco.errors import (
    AuthenticationError,
    ConnectionLostError,
    RemoteError,
    ThrottledError,
    UnreachableError,
)
from glideinwms_bosco.remote.connection import (
    CONNECT_TIMEOUT_S,
    LOGIN_ALIAS,
    Connection,
    Endpoint,
    render_known_hosts,
    render_ssh_config,
)
from glideinwms_bosco.remote.exchange import Output, end_process, exchange
from glideinwms_bosco.remote.key_file import agent_problem
from glideinwms_bosco.remote.messages import MessageFormatError, Reply, parse_reply
from glideinwms_bosco.remote.program import BOOTSTRAP, failure_error, not_begun_error, parse_failure
from glideinwms_bosco.remote.ssh_errors import (
    CLOSED_DURING_LOGIN,
    LOST_HINT,
    THROTTLED_HINT,
    classify_ssh_failure,
    find_pattern,
    names_server,
)
from glideinwms_bosco.remote.throttle import Gate

# ConnectTimeout counts per hop and covers only TCP and the banner; a slow name service or authentication comes on top.
LOGIN_TIMEOUT_S = CONNECT_TIMEOUT_S * 3
PROGRAM_TIMEOUT_S = 120.0
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
MAX_HEADER_LINE_BYTES = 4096
# sun_path holds 108 bytes with the final NUL; ssh binds '<path>.<16 random characters>' first, then renames.
MAX_CONTROL_PATH_BYTES = 108 - 1 - 17
SSH_FAILED = 255  # ssh(1): "exits with the exit status of the remote command or with 255 if an error occurred"
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
# What LogLevel VERBOSE says of hops that did let us in: it would be taken for the place of the error.
_SUCCESS = re.compile(r"^(?:Authenticated to|Transferred:|Bytes per second:).*\n?", re.MULTILINE)
_SAFE_DIRECTORY = re.compile(r"/[A-Za-z0-9._/-]+")

_HELD_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_PRCTL = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may be loaded


def _die_with_parent() -> None:
    # SIGKILL of this process must not leave a logged-in ssh behind.
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let signals wait: a closing terminal sends SIGHUP twice, and the second must not break off the cleaning up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _private_directory() -> Path:
    """Make a 0700 directory whose path is short and plain enough for a control socket and for ProxyJump."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):  # noqa: S108  mkdtemp makes it private
        # ssh hands `-F <path>` unquoted to the shell that starts the jump: no blanks.
        if not _SAFE_DIRECTORY.fullmatch(parent) or not os.access(parent, os.W_OK | os.X_OK):
            continue
        path = Path(tempfile.mkdtemp(prefix="gwms-", dir=parent))
        if len(os.fsencode(path / "ctl")) <= MAX_CONTROL_PATH_BYTES:
            return path
        path.rmdir()
    raise RemoteError("no directory for the ssh control socket", "make /tmp writable")


WhyRefused = Callable[[], Optional[str]]
"""Gives one line, or None."""


class SshSession:
    """A context manager around one ssh master connection.

    On entry it logs in or raises; on exit, for whatever reason, the ssh process is ended and the private directory
    removed. Not for use by several threads, but for `abort`.

    Args:
        connection: the way to the login node.
        site: name of the site description for messages; may be empty.
        gate: keeps to the login host's limits and tries again what it turns away; None for one try at once.
        why_refused: asked after a refused login; says why the signer gave no signature, None when it gave one.
    """

    def __init__(
        self,
        connection: Connection,
        site: str = "",
        gate: Optional[Gate] = None,
        why_refused: Optional[WhyRefused] = None,
    ) -> None:
        self.connection = connection
        self._site = site
        self._gate = gate
        self._why_refused = why_refused
        self._directory: Optional[Path] = None
        self._master: Optional[subprocess.Popen[bytes]] = None
        self._aborted = False
        self.programs_run = 0

    @property
    def label(self) -> str:
        """Return `[site NAME: ]user@host:port` for messages."""
        return self._label_of(self.connection.login)

    def _label_of(self, hop: Endpoint) -> str:
        return f"site {self._site}: {hop.label}" if self._site else hop.label

    def __enter__(self) -> SshSession:
        """Log in.

        Raises:
            UnreachableError, HostKeyError, AuthenticationError: as ssh reports it.
            ThrottledError: the host turns connections away, or its limits leave no turn.
            RemoteError: when ssh is not installed or there is no place for its control socket.
        """
        asks_agent = self.connection.key_file is None and not self.connection.agent_keys
        problem = agent_problem() if asks_agent else None
        if problem is not None:
            raise AuthenticationError(
                f"{self.label}: no key: {problem}",
                "give --key FILE, or load the key into an ssh agent (ssh-agent, ssh-add)",
            )
        try:
            if self._gate is None:
                self._log_in()
            else:
                self._gate.enter(self._log_in, self.label)
        except BaseException:
            self.close()
            raise
        return self

    def _log_in(self) -> None:
        try:
            with _signals_held():
                self._directory = _private_directory()
            self._start_master(self._directory)
            if self._aborted:
                raise RemoteError(f"{self.label}: broken off")
            self._wait_until_up(self._directory)
        except BaseException:
            self._disconnect()
            raise

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and remove the private directory. Safe to call twice."""
        self._disconnect()
        if self._gate is not None:
            self._gate.leave()

    def abort(self) -> None:
        """Break the connection off, from any thread: whatever runs over it ends with an error where it was begun."""
        self._aborted = True  # first: a master that is started meanwhile is seen here, or sees this
        master = self._master
        if master is not None:
            master.terminate()

    def _disconnect(self) -> None:
        with _signals_held():
            master, self._master = self._master, None
            directory, self._directory = self._directory, None
            if master is not None:
                end_process(master)
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def _start_master(self, directory: Path) -> None:
        login, jumps = self.connection.login, self.connection.jumps
        (directory / "known_hosts").write_text(render_known_hosts((*jumps, login)), "ascii")
        (directory / "config").write_text(render_ssh_config(self.connection, directory / "known_hosts"), "utf-8")
        argv = ["ssh", "-F", str(directory / "config"), "-M", "-N", "-S", str(directory / "ctl"), LOGIN_ALIAS]
        with (directory / "stderr").open("wb") as stderr:
            try:
                self._master = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=_environment(),
                    start_new_session=True, preexec_fn=_die_with_parent,
                )  # fmt: skip
            except OSError as error:
                raise RemoteError(f"ssh cannot be started: {error}", "install the OpenSSH client") from None

    def _wait_until_up(self, directory: Path) -> None:
        """Wait for the control socket: ssh links it into place after authentication, already listening."""
        if self._master is None:
            raise RemoteError("the ssh connection is not open")
        ends_at = time.monotonic() + LOGIN_TIMEOUT_S
        while not (directory / "ctl").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(_POLL_S)
                raise self._refused(self._master_stderr())
            if time.monotonic() > ends_at:
                raise UnreachableError(
                    f"{self.label}: no login within {LOGIN_TIMEOUT_S} s",
                    "the host answers but does not finish the login; try again later",
                    self._master_stderr() or None,
                )

    def _master_stderr(self) -> str:
        if self._directory is None:
            return ""
        said = (self._directory / "stderr").read_bytes()[-MAX_HEADER_LINE_BYTES * 4 :].decode("utf-8", "replace")
        return _SUCCESS.sub("", said)

    def _classify(self, stderr: str) -> RemoteError:
        hop = self._hop_of(stderr)
        return classify_ssh_failure(stderr, where=hop.label, host=hop.host, port=hop.port, site=self._site)

    def _refused(self, stderr: str) -> RemoteError:
        """Return the error for a login that did not succeed."""
        error = self._classify(stderr)
        if isinstance(error, AuthenticationError) and self._why_refused is not None:
            reason = self._why_refused()
            if reason is not None:
                return AuthenticationError(f"{self.label}: {reason}", "", error.detail)
        if isinstance(error, ConnectionLostError):
            return UnreachableError(
                f"{self._label_of(self._hop_of(stderr))} {CLOSED_DURING_LOGIN}", THROTTLED_HINT, error.detail
            )
        return error

    def _hop_of(self, stderr: str) -> Endpoint:
        """Return the hop that ssh complains about; the login node when the text names no other."""
        found = find_pattern(stderr)
        # The line that decides may not name a host ("REMOTE HOST IDENTIFICATION HAS CHANGED!"); its neighbours do then.
        for text in (found[0] if found else "", stderr):
            if names_server(text, self.connection.login, self.connection.jumps):
                break
            for hop in self.connection.jumps:
                if names_server(text, hop, (self.connection.login, *self.connection.jumps)):
                    return hop
        return self.connection.login

    def client_argv(self, *options: str, command: str = "") -> list[str]:
        """Return the command line of an ssh client that speaks to this connection's master.

        Raises:
            RemoteError: the session is not open.
        """
        if self._directory is None:
            raise RemoteError("the ssh connection is not open")
        # A client that finds no master would connect anew by itself: the ProxyCommand makes that fail.
        argv = ["ssh", "-F", str(self._directory / "config"), "-S", str(self._directory / "ctl"), "-o",
                "ControlMaster=no", "-o", "ProxyCommand=false", *options, LOGIN_ALIAS]  # fmt: skip
        return [*argv, command] if command else argv

    def run_script(
        self,
        script: str,
        stdin_header: Sequence[str] = (),
        data: bytes = b"",
        *,
        deadline_s: float = PROGRAM_TIMEOUT_S,
        sent: Optional[Callable[[int], None]] = None,
    ) -> Reply:
        """Run a constant sh program on the login node and return its complete answer.

        Args:
            script: the program (see `load_program`); scripts/begin.sh must be its first part.
            stdin_header: parameters, one line each, which the program reads in this order.
            data: raw bytes after the parameters.
            deadline_s: seconds for the whole run.
            sent: called with the number of bytes of `data` that were written so far.

        Raises:
            ConnectionLostError: the connection ended, or the deadline passed, before the program had finished.
            RemoteStorageError: the program could not write on the remote.
            PlatformError: a program of the bundle does not find its libraries there.
            RemoteError: the program reported another error (`detail` holds its text), broke the protocol, or the
                account's login shell did not start it.
        """
        if self._directory is None:
            raise RemoteError("the ssh connection is not open")
        for line in stdin_header:
            if "\n" in line or "\0" in line or len(line.encode("utf-8")) > MAX_HEADER_LINE_BYTES:
                raise RemoteError(f"parameter cannot be sent to {self.label}: {line[:60]!r}")
        nonce = secrets.token_hex(16)
        program = script.encode("ascii")
        head = f"{len(program)}\n".encode("ascii") + program
        head += "".join(f"{line}\n" for line in (nonce, *stdin_header)).encode("utf-8")
        argv = self.client_argv("-T", command=BOOTSTRAP)
        report = None if sent is None else lambda count: sent(max(0, count - len(head)))
        self.programs_run += 1
        output = exchange(
            argv,
            (head, data),
            env=_environment(),
            deadline_s=deadline_s,
            max_output_bytes=MAX_OUTPUT_BYTES,
            sent=report,
        )
        return self._check(output, nonce, deadline_s)

    def _check(self, output: Output, nonce: str, deadline_s: float) -> Reply:
        stderr = output.stderr.decode("utf-8", "replace")
        if output.expired:
            raise ConnectionLostError(
                f"{self.label}: no answer within {deadline_s:g} s",
                "is a file system, or a startup file of the login shell, hanging there?", stderr or None,
            )  # fmt: skip
        if output.overflow:
            raise RemoteError(f"{self.label} printed more than {MAX_OUTPUT_BYTES} bytes")
        try:
            reply = parse_reply(output.stdout, nonce)
        except MessageFormatError as error:
            raise RemoteError(f"{self.label} gave an answer that cannot be understood: {error}") from None
        if reply.ended:
            if reply.values("ERROR"):
                raise failure_error(parse_failure(reply), self.label)
            return reply
        # An ssh before 8.5 gets SIGPIPE when the one that it shares a connection with goes first.
        if output.status == SSH_FAILED or output.status < 0:
            raise self._lost(stderr)
        if not reply.begun:
            # The nonce is known only to who reads our standard input.
            raise not_begun_error(self.label, reply.noise or stderr, output.status, printed_back=nonce in reply.noise)
        raise RemoteError(
            f"{self.label}: the remote program ended with status {output.status} before it had finished",
            LOST_HINT, stderr or None,
        )  # fmt: skip

    def _lost(self, stderr: str) -> RemoteError:
        """Return the error for a session that ssh itself gave up: whatever the reason, the login had succeeded."""
        error = self._classify(f"{stderr}\n{self._master_stderr()}")
        if isinstance(error, (UnreachableError, AuthenticationError, ThrottledError)):
            return ConnectionLostError(f"{self.label} lost the connection", LOST_HINT, error.detail)
        return error


def _environment() -> dict[str, str]:
    """Return this process's environment with the language the error patterns are written for."""
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
