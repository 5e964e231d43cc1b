# SPDX-License-Identifier: Apache-2.0
"""The folder that callers see: a socket and its ssh files per handle, and status.json.

Everything in it is made anew by each daemon; what another one has left is cleared away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import RelayError
from glideinwms_bosco.relay.agent_server import AgentServer, Backend
from glideinwms_bosco.relay.client_conf import SUFFIXES, ClientSettings, client_files, factory_conf
from glideinwms_bosco.relay.handover import FACTORY_CONF
from glideinwms_bosco.relay.offered import OfferedHandle

FILE_MODE = 0o640
FOLDER_MODE = 0o750
STATUS_FILE = "status.json"

_OURS = re.compile(r"[a-z2-7]{26}(?:" + "|".join(re.escape(suffix) for suffix in SUFFIXES) + r")", re.ASCII)
_log = logging.getLogger(__name__)


class SocketFolder:
    """The sockets and files of all handles.

    Args:
        settings: what stands in every ssh configuration.
        gid: group of sockets and files; None leaves it the daemon's.
    """

    def __init__(self, settings: ClientSettings, gid: Optional[int], backend: Backend) -> None:
        self._settings = settings
        self._gid = gid
        self._backend = backend
        self._servers: dict[str, AgentServer] = {}

    @property
    def path(self) -> Path:
        """The folder."""
        return self._settings.socket_dir

    def prepare(self) -> None:
        """Make the folder if it is missing, and clear what an earlier daemon has left.

        Raises:
            RelayError: the folder cannot be used.
        """
        try:
            self.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
            for path in self.path.iterdir():
                if _OURS.fullmatch(path.name):
                    path.unlink()
            self._write(FACTORY_CONF, factory_conf(self._settings))
        except OSError as err:
            raise RelayError(f"{self.path}: cannot be used: {err.strerror}", "see socket_dir in relay.conf") from None

    async def serve(self, handles: Iterable[tuple[OfferedHandle, tuple[OfferedHandle, ...]]]) -> dict[str, str]:
        """Serve handles, each given with the handles for its jump hosts; a known one gets the new offer.

        Returns:
            dict handle -> why it cannot be served.
        """
        failed: dict[str, str] = {}
        for offered, siblings in handles:
            # An offer has a thousand handles: signatures, of other brokers too, go on meanwhile.
            await asyncio.sleep(0)
            server = self._servers.get(offered.handle)
            if server is not None:
                # Before its files change: an ssh that reads of a new key finds it there.
                server.offer(offered)
            try:
                for name, content in client_files(offered, siblings, self._settings).items():
                    self._write(name, content)
                if not offered.cert_blob:
                    (self.path / f"{offered.handle}-cert.pub").unlink(missing_ok=True)
                if server is None:
                    await self._listen(offered)
            except OSError as err:
                _log.error("handle %s: %s: %s", offered.handle, err.filename or self.path, err.strerror)
                failed[offered.handle] = "the relay cannot write its socket folder"
        return failed

    async def _listen(self, offered: OfferedHandle) -> None:
        server = AgentServer(offered, self.path / f"{offered.handle}.sock", self._gid, self._backend)
        await server.start()
        self._servers[offered.handle] = server

    async def remove(self, handles: Iterable[str]) -> None:
        """Close the sockets of handles and remove their files; the socket first, so that nobody starts with half."""
        for handle in handles:
            server = self._servers.pop(handle, None)
            if server is not None:
                await server.close()
            for suffix in SUFFIXES:
                (self.path / f"{handle}{suffix}").unlink(missing_ok=True)

    async def close(self) -> None:
        """Remove everything: callers then know that no relay is running."""
        (self.path / STATUS_FILE).unlink(missing_ok=True)
        await self.remove(tuple(self._servers))

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Write status.json; a full disk is logged and no reason to stop signing."""
        try:
            self._write(STATUS_FILE, (json.dumps(status, indent=1) + "\n").encode())
        except OSError as err:
            _log.error("%s: cannot be written: %s", self.path / STATUS_FILE, err.strerror)

    def _write(self, name: str, content: bytes) -> None:
        path = self.path / name
        if write_atomic(path, content, FILE_MODE) and self._gid is not None:
            os.chown(path, -1, self._gid)
