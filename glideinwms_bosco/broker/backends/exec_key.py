# SPDX-License-Identifier: Apache-2.0
"""A short-lived key or certificate that a site's own command fetches, again and again before it expires.

The command (argv of the policy) runs in an empty private folder. It writes `key` there (and `key-cert.pub`, when the
site certifies keys), or prints the private key. Both go into a private agent with a lifetime, and the folder is
emptied. Whatever the command authenticates with stays on this host.

Each time may bring another key. The one before stays in the agent until the next is fetched: a login that is under way
when keys change has been told of the old one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.backends.agent_client import DEADLINE_S
from glideinwms_bosco.broker.backends.agent_process import PrivateAgent, private_folder
from glideinwms_bosco.broker.backends.command import run_command
from glideinwms_bosco.broker.backends.model import choose_key
from glideinwms_bosco.broker.backends.ssh_add import KeyFile, load_key
from glideinwms_bosco.errors import KeyBackendError, WireError
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.sshwire.certificate import Certificate, is_certificate, parse_certificate
from glideinwms_bosco.sshwire.keys import PublicKey

LOG = logging.getLogger("gwms-ssh-broker")

COMMAND_DEADLINE_S = 120.0
LIFETIME_S = 3600
"""Of a key that comes without a certificate to say how long it is good for."""
MIN_LIFETIME_S = 30
"""CSCS gives out certificates of one minute; what is left of less is not worth loading."""
RENEW_AT = 2 / 3
"""Part of the lifetime after which the next one is fetched: two more tries fit before the end."""
FIRST_RETRY_S = 5.0
LAST_RETRY_S = 300.0
MAX_KEY_BYTES = 65536
KEY_NAME = "key"
CERTIFICATE_NAME = "key-cert.pub"
FOLDER_VARIABLE = "GWMS_KEY_DIR"


@dataclass(frozen=True)
class _Fetched:
    file: Path
    certificate: Optional[Certificate]
    lifetime_s: int


class ExecKeyBackend:
    """A key that a command gives.

    Args:
        name: the entry, for the log.
        key: the public key that it must give; None: any.
        command: argv.
        passphrase: of the key that it gives, as in KeyFile.
        folder: private to this backend.
    """

    def __init__(
        self,
        name: str,
        key: Optional[PublicKey],
        command: Sequence[str],
        passphrase: Optional[str],
        folder: Path,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.public_key = key
        self.earlier_key: Optional[PublicKey] = None
        self._expected = key
        self._name = name
        self._passphrase = passphrase
        self._command = tuple(command)
        self._folder = folder
        self._trouble = "its key has not been fetched yet"
        self._certificate: Optional[Certificate] = None
        self._ends_at = 0.0
        self._task: Optional[asyncio.Task[None]] = None
        self._again = asyncio.Event()
        self.agent = PrivateAgent(folder / "a", self._agent_is_new, name, deadline_s)

    @property
    def trouble(self) -> str:
        """See KeyBackend."""
        if self.agent.trouble:
            return self.agent.trouble
        if time.time() < self._ends_at:
            return ""
        return self._trouble or "its key has expired"

    @property
    def certificate(self) -> Optional[Certificate]:
        """See KeyBackend."""
        return self._certificate if time.time() < self._ends_at else None

    @property
    def agent_socket(self) -> Path:
        """See KeyBackend."""
        return self.agent.socket

    async def start(self) -> None:
        """See KeyBackend."""
        await self.agent.start()
        self._again.clear()
        delay = await self._fetch_and_load(FIRST_RETRY_S)
        self._task = asyncio.get_running_loop().create_task(self._keep(delay))

    async def sign(self, data: bytes, flags: int, key: Optional[PublicKey] = None) -> bytes:
        """See KeyBackend."""
        key = key or self.public_key
        if key is None or (self.trouble and not self.agent.trouble):
            raise KeyBackendError(self.trouble)
        return await self.agent.sign(key.blob, data, flags)

    async def close(self) -> None:
        """See KeyBackend."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.agent.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _agent_is_new(self, _socket: Path) -> None:
        """A new agent is empty; nothing but the command can fill it."""
        self._ends_at = 0.0
        self.earlier_key = None
        self._trouble = "its ssh-agent was started anew and its key is being fetched"
        self._again.set()

    async def _keep(self, delay_s: float) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await bounded(delay_s, self._again.wait())
            self._again.clear()
            delay_s = await self._fetch_and_load(delay_s)

    async def _fetch_and_load(self, last_delay_s: float) -> float:
        """Fetch a key and load it; return the seconds to wait before the next time."""
        try:
            fetched = await self._fetch()
            key = await self._load(fetched)
            self._check_certificate(key, fetched.certificate)
        except KeyBackendError as err:
            if str(err) != self._trouble:
                LOG.error("%s: %s", self._name, err)
            self._trouble = str(err)
            delay_s = min(last_delay_s * 2, LAST_RETRY_S)
            if self._ends_at:
                # What is loaded is still good: try more often than that runs out.
                delay_s = min(delay_s, max(FIRST_RETRY_S, (self._ends_at - time.time()) / 3))
            return delay_s * random.uniform(0.75, 1.0)  # noqa: S311 - spreads load, hides nothing
        finally:
            self._wipe()
        if self.public_key is not None and key.blob != self.public_key.blob and time.time() < self._ends_at:
            self.earlier_key = self.public_key
        self.public_key = key
        self._trouble = ""
        self._certificate = fetched.certificate
        self._ends_at = time.time() + fetched.lifetime_s
        LOG.info("%s: key fetched, good for %d s", self._name, fetched.lifetime_s)
        return fetched.lifetime_s * RENEW_AT

    async def _load(self, fetched: _Fetched) -> PublicKey:
        """Put what was fetched into the agent, which then holds it and the key before; return the new key."""
        agent = await self.agent.ready()
        last = self.public_key.blob if self.public_key else b""
        for blob, _ in await agent.identities():
            if blob != last:
                await agent.remove(blob)
        self.earlier_key = None
        await load_key(self.agent.socket, KeyFile(fetched.file, self._passphrase), fetched.lifetime_s)
        held = await agent.identities()
        if self._expected is None:
            # The key that was there before and comes again is the only one.
            held = tuple(row for row in held if row[0] != last and not is_certificate(row[0])) or held
        return choose_key(held, self._expected, self._command[0])

    @property
    def _drop(self) -> Path:
        return self._folder / "k"

    def _wipe(self) -> None:
        shutil.rmtree(self._drop, ignore_errors=True)

    async def _fetch(self) -> _Fetched:
        private_folder(self._folder)
        self._wipe()
        folder = private_folder(self._drop)
        environment = {**os.environ, FOLDER_VARIABLE: str(folder), "HOME": os.environ.get("HOME", "/")}
        finished = await run_command(self._command, COMMAND_DEADLINE_S, environment=environment, folder=folder)
        if finished.status != 0:
            said = " ".join(finished.stderr.split())[-300:]
            raise KeyBackendError(f"{self._command[0]}: fails ({finished.status}): {said or 'it said nothing'}")
        file = folder / KEY_NAME
        if not file.is_file():
            if b"PRIVATE KEY" not in finished.stdout:
                hint = f"it must write a file `{KEY_NAME}` into its working folder, or print the private key"
                raise KeyBackendError(f"{self._command[0]}: gives no private key", hint)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(finished.stdout)
        file.chmod(0o600)
        certificate = self._read_certificate(folder / CERTIFICATE_NAME)
        return _Fetched(file, certificate, self._lifetime(certificate))

    def _read_certificate(self, file: Path) -> Optional[Certificate]:
        if not file.is_file():
            return None
        if file.stat().st_size > MAX_KEY_BYTES:
            raise KeyBackendError(f"{self._command[0]}: its certificate has more than {MAX_KEY_BYTES} bytes")
        try:
            return parse_certificate(base64.b64decode(file.read_text("ascii").split()[1], validate=True))
        except (WireError, ValueError, IndexError) as err:
            raise KeyBackendError(f"{self._command[0]}: its certificate cannot be read: {err}") from None

    def _lifetime(self, certificate: Optional[Certificate]) -> int:
        if certificate is None:
            return LIFETIME_S
        left_s = certificate.valid_before - int(time.time())
        if left_s < MIN_LIFETIME_S:
            hint = "look at this host's clock, and at the lifetime the command asks for"
            raise KeyBackendError(f"{self._command[0]}: its certificate ends in {left_s} s", hint)
        # ssh-add takes no more than an int; a certificate that never ends is fetched again tomorrow.
        return min(left_s, 86400)

    def _check_certificate(self, key: PublicKey, certificate: Optional[Certificate]) -> None:
        if certificate is None or certificate.key.blob == key.blob:
            return
        message = f"{self._command[0]}: its certificate is for the key {certificate.key.fingerprint}"
        raise KeyBackendError(message, f"it must be for {key.fingerprint}, the key that it gives")
