# SPDX-License-Identifier: Apache-2.0
"""A key in an agent that others run: PKCS#11 tokens, FIDO keys, a site's HSM. Nothing is ever loaded there."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Optional

from glideinwms_bosco.broker.backends.agent_client import DEADLINE_S, AgentClient
from glideinwms_bosco.broker.backends.model import choose_key
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.certificate import Certificate
from glideinwms_bosco.sshwire.keys import PublicKey

LOG = logging.getLogger("gwms-ssh-broker")

CHECK_INTERVAL_S = 60.0
"""How often the agent is asked whether it still holds the key: a token that was pulled shows before it is needed."""
CONNECTIONS = 2
"""A token signs one thing at a time."""


class AgentSocketBackend:
    """One key of the agent that listens at `path`.

    Args:
        name: the entry, for the log.
        key: the public key that the agent must hold; None takes the only one there is.
        path: the agent's socket.
    """

    certificate: Optional[Certificate] = None
    earlier_key: Optional[PublicKey] = None

    def __init__(self, name: str, key: Optional[PublicKey], path: Path, deadline_s: float = DEADLINE_S) -> None:
        self.trouble = f"{path}: the agent has not been asked yet"
        self._name = name
        self.public_key = key
        self.agent_socket = path
        self._client = AgentClient(path, deadline_s, CONNECTIONS)
        self._task: Optional[asyncio.Task[None]] = None

    async def start(self) -> None:
        """See KeyBackend."""
        await self._check()
        self._task = asyncio.get_running_loop().create_task(self._keep_checking())

    async def sign(self, data: bytes, flags: int, key: Optional[PublicKey] = None) -> bytes:
        """See KeyBackend."""
        key = key or self.public_key
        if key is None:
            raise KeyBackendError(self.trouble)
        return await self._client.sign(key.blob, data, flags)

    async def close(self) -> None:
        """See KeyBackend."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self._check()

    async def _check(self) -> None:
        trouble = ""
        try:
            self.public_key = choose_key(await self._client.identities(), self.public_key, str(self.agent_socket))
        except KeyBackendError as err:
            trouble = str(err)
        if trouble and trouble != self.trouble:
            LOG.error("%s: %s", self._name, trouble)
        elif self.trouble and not trouble:
            LOG.info("%s: key is ready", self._name)
        self.trouble = trouble
