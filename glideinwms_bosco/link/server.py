# SPDX-License-Identifier: Apache-2.0
"""The relay's door: takes TCP connections, lets them finish handshake and HELLO, hands out those that may stay."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.admission import Admit, connection_error
from glideinwms_bosco.link.channel import LinkConnection
from glideinwms_bosco.link.local import LocalEnd

log = logging.getLogger(__name__)

MAX_ARRIVING = 64
"""Peers at once that have not said HELLO yet: strangers must not use up memory or files. One more, and the one that
has taken longest is dropped: a broker needs some round trips, who wants to shut it out may take all the time there is.
"""
MAX_ARRIVING_OF_ONE_ADDRESS = 16
"""Of one IPv4 address, or one IPv6 /64, which is what a host may choose from."""
_AFTER_ACCEPT_ERROR_S = 1.0


class Server:
    """Accepts until `close`.

    Attributes:
        on_connection: called at a peer's HELLO, before any frame behind it is looked at.
        connections: those that stand.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        local: LocalEnd,
        admission: Callable[[str], Admit],
        on_connection: Callable[[LinkConnection], None],
    ) -> None:
        self._listener = listener
        self._context = context
        self._local = local
        self._admission = admission
        self.on_connection = on_connection
        self.connections: set[LinkConnection] = set()
        self._arriving: dict[LinkConnection, str] = {}  # oldest first; with where it counts
        self._tasks: dict[LinkConnection, asyncio.Task[None]] = {}
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Accept no more and end all connections with GOAWAY."""
        self._accepting.cancel()
        self._listener.close()
        for connection, task in tuple(self._tasks.items()):
            if connection in self.connections:
                connection.close("the relay stops")
            else:
                task.cancel()

    async def wait_closed(self) -> None:
        """Return when all sockets are closed; for after `close`."""
        await asyncio.gather(self._accepting, *self._tasks.values(), return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                arrived, address = await loop.sock_accept(self._listener)
            except OSError as error:
                log.error("cannot accept connections: %s", error.strerror)
                await asyncio.sleep(_AFTER_ACCEPT_ERROR_S)  # out of file descriptors: it does not pass at once
                continue
            host, port = address[:2]
            counted = _network(host)
            if list(self._arriving.values()).count(counted) >= MAX_ARRIVING_OF_ONE_ADDRESS:
                log.warning("%s: turned away, too many connections without HELLO", host)
                arrived.close()
                continue
            if len(self._arriving) >= MAX_ARRIVING:
                self._drop_oldest()
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            connection = LinkConnection(where, self._local, self._admission(where), on_ready=self._ready)
            self._arriving[connection] = counted
            self._tasks[connection] = loop.create_task(self._keep(connection, arrived))
            # A task that is cancelled before it has begun cleans nothing up; and a flood must not starve those within.
            await asyncio.sleep(0)

    def _drop_oldest(self) -> None:
        oldest = next(iter(self._arriving))
        log.warning("%s: dropped, too many connections without HELLO", oldest.where)
        del self._arriving[oldest]
        self._tasks[oldest].cancel()

    async def _keep(self, connection: LinkConnection, arrived: socket.socket) -> None:
        try:
            await self._welcome(connection, arrived)
            await connection.wait_closed()
        except LinkError as error:
            log.warning("no link: %s", error)
        except asyncio.CancelledError:
            connection.abort(LinkError("the relay stops, or has too many connections without HELLO"))
            raise
        finally:
            self.connections.discard(connection)
            del self._tasks[connection]

    async def _welcome(self, connection: LinkConnection, arrived: socket.socket) -> None:
        try:
            await self._secure(connection, arrived)
            await connection.wait_ready()
        finally:
            self._arriving.pop(connection, None)

    async def _secure(self, connection: LinkConnection, arrived: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = self._local.limits.connect_s
        try:
            await loop.connect_accepted_socket(
                lambda: connection, arrived, ssl=self._context, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ValueError) as error:
            identity = self._local.identity
            raise connection_error(connection.where, identity, error, "the TLS handshake") from error

    def _ready(self, connection: LinkConnection) -> None:
        self.connections.add(connection)
        self.on_connection(connection)


def _network(host: str) -> str:
    """What counts as one address. Source: RFC 4291 section 2.5.4, RFC 4291 section 2.5.5.2 for mapped addresses."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address) or address.ipv4_mapped:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False))
