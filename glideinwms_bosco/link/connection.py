# SPDX-License-Identifier: Apache-2.0
"""Make connections between broker and relay: the broker dials, the relay listens. Both may ask afterwards."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from typing import Optional

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link import admission
from glideinwms_bosco.link.channel import MAX_CLOCK_SKEW_S, LinkConnection
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.link.local import Limits, LocalEnd
from glideinwms_bosco.link.server import Server
from glideinwms_bosco.link.serving import Handler
from glideinwms_bosco.link.tls import Identity, client_context, server_context

__all__ = [
    "MAX_CLOCK_SKEW_S",
    "Handler",
    "Identity",
    "Limits",
    "LinkConnection",
    "Server",
    "dial",
    "listen",
]

_BACKLOG = 128
_EYEBALLS_S = 0.25


async def dial(
    host: str,
    port: int,
    identity: Identity,
    pins: Collection[str],
    *,
    name: str,
    on_request: Optional[Handler] = None,
    on_connection: Optional[Callable[[LinkConnection], None]] = None,
    features: tuple[str, ...] = (),
    limits: Optional[Limits] = None,
) -> LinkConnection:
    """Connect to a relay; return when its HELLO has come.

    Args:
        pins: `sha256:<hex>` of the relay; two while it changes its key.
        name: how we introduce ourselves.
        on_request: answers the relay's Sign.
        on_connection: called before anything has come, to set the connection's `on_request` in its place: a relay with
            requests waiting sends them behind its HELLO, before this coroutine goes on.

    Raises:
        LinkError: no connection, not the right peer, no HELLO, or it refuses us; worded for the administrator.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not pins:
        raise LinkError(f"no pin is registered for relay {where}", "ask its administrator for the pin of its key")
    local = LocalEnd(identity, name, features, limits or Limits())
    context = client_context(identity)
    connection = LinkConnection(where, local, admission.of_relay(where, pins), on_request)
    if on_connection is not None:
        on_connection(connection)
    connect_s = local.limits.connect_s
    connecting = asyncio.get_running_loop().create_connection(
        lambda: connection,
        host,
        port,
        ssl=context,
        ssl_handshake_timeout=connect_s,
        happy_eyeballs_delay=_EYEBALLS_S,
    )
    try:
        await bounded(connect_s, connecting)
        await connection.wait_ready()
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        words = TimeoutError() if isinstance(error, asyncio.TimeoutError) else error
        raise admission.connection_error(where, identity, words, "connecting") from error
    except asyncio.CancelledError:
        connection.abort(LinkError(f"the connection with {where} is not wanted any more"))
        raise
    return connection


async def listen(
    address: str,
    port: int,
    identity: Identity,
    pins_lookup: Callable[[bytes], bool],
    on_connection: Callable[[LinkConnection], None],
    *,
    name: str,
    features: tuple[str, ...] = (),
    limits: Optional[Limits] = None,
) -> Server:
    """Wait for brokers.

    Args:
        address: numeric or a name; empty for all addresses of both families.
        port: 0 for any free one.
        pins_lookup: is the broker with this SubjectPublicKeyInfo (DER) registered? Asked for each connection, so
            that a changed configuration counts at once.
        on_connection: called at a broker's HELLO, before any frame behind it is looked at: the place to set
            `on_request`. Must not block.

    Raises:
        LinkError: the address cannot be used, or the identity cannot be read.
    """
    local = LocalEnd(identity, name, features, limits or Limits())
    context = server_context(identity)

    def admit_at(where: str) -> admission.Admit:
        return admission.of_broker(where, pins_lookup)

    return Server(await _listener(address, port), context, local, admit_at, on_connection)


async def _listener(address: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        if not address and socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        else:
            found = await loop.getaddrinfo(address or "0.0.0.0", port, type=socket.SOCK_STREAM)  # noqa: S104
            listener = socket.create_server(found[0][4][:2], family=found[0][0], backlog=_BACKLOG)
    except OSError as error:
        raise LinkError(f"cannot listen on {address or '*'}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
