# SPDX-License-Identifier: Apache-2.0
"""A private ssh-agent child that dies with the broker and comes back with its key when it dies or hangs alone.

The key is in no other process: ssh-add reads the file and hands it to the agent, and the agent signs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.backends.agent_client import DEADLINE_S, AgentClient, AgentGoneError, held_keys
from glideinwms_bosco.broker.backends.model import choose_key
from glideinwms_bosco.broker.backends.ssh_add import KeyFile, load_key
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.link.backoff import LONGEST_S, Backoff
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.sshwire.certificate import Certificate
from glideinwms_bosco.sshwire.keys import PublicKey

LOG = logging.getLogger("gwms-ssh-broker")

START_DEADLINE_S = 10.0
RESTART_WAIT_S = 5.0
"""How long a request waits for an agent that comes back; with the agent's deadline still below the relay's 15 s."""
MAX_SOCKET_PATH_BYTES = 107
"""sun_path of sockaddr_un, less its final zero."""
FOLDER_MODE = 0o700

# setpriv: the kernel ends the agent with us, however we end. A set-group-ID program (Debian installs ssh-agent so)
# would clear that setting when it is executed, unless it may gain no privileges: prctl(2), PR_SET_PDEATHSIG.
_ARGV = ("setpriv", "--no-new-privs", "--pdeathsig", "KILL", "--", "ssh-agent", "-D")

Load = Callable[[Path], Awaitable[None]]
"""Puts keys into the agent at a socket. Raises KeyBackendError."""


def private_folder(path: Path) -> Path:
    """Make a folder that only we can enter, or see that it is one.

    Raises:
        KeyBackendError: it cannot be made, or is somebody else's.
    """
    try:
        path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != FOLDER_MODE:
            path.chmod(FOLDER_MODE)
    except OSError as err:
        raise KeyBackendError(f"{path}: cannot be made a private folder: {err.strerror}") from None
    return path


class AgentProcess:
    """One ssh-agent child with its socket in a private folder."""

    def __init__(self, folder: Path, provider: Optional[Path] = None) -> None:
        self.socket = folder / "agent"
        self._allowed = ("-P", str(provider)) if provider else ()
        self._folder = folder
        self._process: Optional[asyncio.subprocess.Process] = None

    async def start(self) -> None:
        """Start it; returns when it listens.

        Raises:
            KeyBackendError: it does not start.
        """
        private_folder(self._folder)
        if len(str(self.socket)) > MAX_SOCKET_PATH_BYTES:
            message = f"{self.socket}: longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path may have"
            raise KeyBackendError(message, "set GWMS_SSH_BROKER_STATE to a shorter path")
        # A killed agent leaves its socket, and the next one does not start on it.
        self.socket.unlink(missing_ok=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *_ARGV,
                *self._allowed,
                "-a",
                str(self.socket),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "SHELL": "/bin/sh"},
                start_new_session=True,
            )
        except OSError as err:
            hint = "install util-linux and openssh-clients"
            raise KeyBackendError(f"{_ARGV[0]}: cannot be started: {err.strerror}", hint) from None
        try:
            # With -D it prints where it listens, when it does.
            line = await bounded(START_DEADLINE_S, _first_line(self._process))
        except asyncio.TimeoutError:
            line = b""
        if not line:
            await self.stop()
            raise KeyBackendError("ssh-agent does not start", "run `ssh-agent -D` by hand to see why")

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process else 0

    async def wait(self) -> None:
        """Wait for its end."""
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """End it at once; a stopped process, too."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End it and take its socket away."""
        self.kill()
        await self.wait()
        self.socket.unlink(missing_ok=True)


async def _first_line(process: asyncio.subprocess.Process) -> bytes:
    return await process.stdout.readline() if process.stdout else b""


class PrivateAgent:
    """Keeps one AgentProcess running with its keys loaded.

    Args:
        folder: private to this agent; its path must leave room for a socket's name.
        load: called with the socket of each new agent.
        name: the entry, for the log.
        deadline_s: for each signature.
        provider: PKCS#11 library that the agent may load. A token locks itself after some wrong PINs, so that a
            refused one is not tried again.
    """

    def __init__(
        self,
        folder: Path,
        load: Load,
        name: str,
        deadline_s: float = DEADLINE_S,
        provider: Optional[Path] = None,
    ) -> None:
        self.trouble = "its key is not loaded yet"
        self.process = AgentProcess(folder, provider)
        self._folder = folder
        self._provider = provider
        self._retry = provider is None
        self._restarts = 0
        self._load = load
        self._name = name
        self._deadline_s = deadline_s
        self._client: Optional[AgentClient] = None
        self._up = asyncio.Event()
        self._tried = asyncio.Event()
        self._gave_up = False
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return self.process.socket

    async def start(self) -> None:
        """Start the agent; returns after the first try."""
        self._task = asyncio.get_running_loop().create_task(self._keep())
        await self._tried.wait()

    async def ready(self) -> AgentClient:
        """Return a client of the agent; waits a little for one that is just coming back.

        Raises:
            KeyBackendError: it is not there.
        """
        if not self._up.is_set() and not self._gave_up:
            with contextlib.suppress(asyncio.TimeoutError):
                await bounded(RESTART_WAIT_S, self._up.wait())
        if self._client is None or not self._up.is_set():
            raise KeyBackendError(self.trouble)
        return self._client

    async def sign(self, key_blob: bytes, data: bytes, flags: int) -> bytes:
        """Get a signature; asks again, once, when the agent dies meanwhile.

        Raises:
            KeyBackendError: none within the deadline.
        """
        client = await self.ready()
        try:
            return await client.sign(key_blob, data, flags)
        except AgentGoneError:
            if client is self._client:
                # Dead, or of no use: either way the task below sees it end and starts another.
                self._up.clear()
                self.process.kill()
        return await (await self.ready()).sign(key_blob, data, flags)

    async def close(self) -> None:
        """End the agent, and with it its keys."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.trouble = "its ssh-agent was stopped"
        self._gave_up = True
        await self._take_down()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            started = loop.time()
            try:
                await self._bring_up()
                await self.process.wait()
                self._say_trouble("its ssh-agent has died and is being started again")
            except KeyBackendError as err:
                self._gave_up = True
                self._say_trouble(str(err))
            finally:
                self._up.clear()
                self._tried.set()
            await self._take_down()
            if self._gave_up and not self._retry:
                return
            if loop.time() - started > LONGEST_S:
                # It was good for a while: nobody has to wait.
                backoff.reset()
            elif self._gave_up or self._restarts:
                await asyncio.sleep(backoff.next_delay_s())
            self._restarts += 1

    async def _take_down(self) -> None:
        await self.process.stop()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _bring_up(self) -> None:
        self.process = AgentProcess(self._folder, self._provider)
        await self.process.start()
        await self._load(self.socket)
        self._client = AgentClient(self.socket, self._deadline_s, on_silence=self._hangs)
        self._gave_up = False
        if self.trouble:
            LOG.info("%s: key is ready", self._name)
        self.trouble = ""
        self._up.set()
        self._tried.set()

    def _say_trouble(self, trouble: str) -> None:
        if trouble != self.trouble:
            LOG.error("%s: %s", self._name, trouble)
        self.trouble = trouble

    def _hangs(self) -> None:
        LOG.error("%s: its ssh-agent answers nothing; it is killed and started again", self._name)
        self.process.kill()


class KeyFileBackend:
    """An OpenSSH private key file, or a key of a PKCS#11 token, in a private agent of its own.

    Args:
        name: the entry.
        key: the public half that it must have; None takes the only key there is.
        file: the private key file, or the token's library.
        folder: private to this backend.
    """

    certificate: Optional[Certificate] = None
    earlier_key: Optional[PublicKey] = None

    def __init__(
        self, name: str, key: Optional[PublicKey], file: KeyFile, folder: Path, deadline_s: float = DEADLINE_S
    ) -> None:
        self.public_key = key
        self._file = file
        self.agent = PrivateAgent(folder, self._load_key, name, deadline_s, file.path if file.is_provider else None)

    @property
    def trouble(self) -> str:
        """See KeyBackend."""
        return self.agent.trouble

    @property
    def agent_socket(self) -> Path:
        """See KeyBackend."""
        return self.agent.socket

    async def start(self) -> None:
        """See KeyBackend."""
        await self.agent.start()

    async def sign(self, data: bytes, flags: int, key: Optional[PublicKey] = None) -> bytes:
        """See KeyBackend."""
        key = key or self.public_key
        if key is None:
            raise KeyBackendError(self.trouble)
        return await self.agent.sign(key.blob, data, flags)

    async def close(self) -> None:
        """See KeyBackend."""
        await self.agent.close()

    async def _load_key(self, socket: Path) -> None:
        await load_key(socket, self._file)
        self.public_key = choose_key(await held_keys(socket), self.public_key, str(self._file.path))
