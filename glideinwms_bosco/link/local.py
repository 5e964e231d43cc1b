# SPDX-License-Identifier: Apache-2.0
"""What one end brings to every connection: who it is, how it introduces itself, how long it waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from glideinwms_bosco import __version__
from glideinwms_bosco.link.messages import Hello
from glideinwms_bosco.link.tls import Identity

SOFTWARE = f"glideinwms-bosco/{__version__}"


@dataclass(frozen=True)
class Limits:
    """Times and sizes of a connection; the defaults are protocol version 1, others are for tests.

    Attributes:
        connect_s: for name look-up, TCP and TLS together.
        hello_s: from the end of the handshake to the peer's HELLO.
        ping_every_s: between two PINGs.
        dead_after_s: without a PONG the peer is given up.
        close_s: for the last words; then the connection is cut.
        outstanding: requests at work at once, in each direction.
        buffer_bytes: written by us and not yet taken by the peer.
    """

    connect_s: float = 15.0
    hello_s: float = 10.0
    ping_every_s: float = 20.0
    dead_after_s: float = 60.0
    close_s: float = 2.0
    outstanding: int = 256
    buffer_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True)
class LocalEnd:
    """This end.

    Attributes:
        name: how the operator of the other end knows us; shown there, never trusted.
        features: what we can do beyond version 1.
    """

    identity: Identity
    name: str
    features: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def hello(self) -> Hello:
        """Our HELLO, of now."""
        return Hello(self.name, SOFTWARE, int(time.time() * 1000), self.features)
