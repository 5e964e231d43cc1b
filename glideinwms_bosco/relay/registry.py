# SPDX-License-Identifier: Apache-2.0
"""Which broker is connected, which handles it offers, and what its last refusal said. No I/O, no clock of its own.

A handle belongs to the connection whose TLS key it is made of. What a broker offered stays when it goes away: whoever
asks then gets a reason instead of a missing socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from glideinwms_bosco.errors import RelayError
from glideinwms_bosco.link.channel import LinkConnection
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Offer, OfferResult, printable
from glideinwms_bosco.relay.conf import BrokerConf
from glideinwms_bosco.relay.offered import NotOffered, OfferedHandle, check_item
from glideinwms_bosco.sshwire.handle import spki_pin

MAX_REASON_CHARS = 300


@dataclass
class BrokerSide:
    """One identity (pin) of a broker and its state.

    Attributes:
        since: unix seconds at which `connection` came or went; of the daemon's start before the first one.
        outstanding: signatures asked for and not answered yet, also those that wait for the broker to come back.
    """

    conf: BrokerConf
    pin: str
    since: float
    connection: Optional[LinkConnection] = None
    generation: int = 0
    outstanding: int = 0
    handles: dict[str, OfferedHandle] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """True while a connection stands."""
        return self.connection is not None


@dataclass(frozen=True)
class OfferChange:
    """What an offer has changed.

    Attributes:
        results: for OFFER_ACK, one per item.
        removed: handles that are not offered any more.
    """

    results: tuple[OfferResult, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class LastDeny:
    """The last refusal of a handle; `t` in unix seconds."""

    code: int
    reason: str
    t: float


class Registry:
    """The brokers of relay.conf and what they offer.

    Args:
        brokers: of relay.conf.
        now: unix seconds.
    """

    def __init__(self, brokers: Iterable[BrokerConf], now: float) -> None:
        self.sides: dict[str, BrokerSide] = {}
        self._denials: dict[str, LastDeny] = {}
        self.configure(brokers, now)

    def configure(self, brokers: Iterable[BrokerConf], now: float) -> tuple[BrokerSide, ...]:
        """Take a new list of brokers; return the sides that are gone with it, for the caller to close."""
        before, self.sides = self.sides, {}
        for broker in brokers:
            for pin in broker.pins:
                side = before.pop(pin, None) or BrokerSide(broker, pin, now)
                side.conf = broker
                self.sides[pin] = side
        for side in before.values():
            self._forget(side.handles)
        return tuple(before.values())

    def known(self, spki_der: bytes) -> bool:
        """Tell whether a TLS peer is a broker of relay.conf."""
        return spki_pin(spki_der) in self.sides

    def connected(self, connection: LinkConnection, now: float) -> Optional[LinkConnection]:
        """Take a new connection; return the one it replaces, for the caller to close.

        Raises:
            RelayError: its pin has left relay.conf meanwhile.
        """
        side = self.sides.get(spki_pin(connection.peer_spki))
        if side is None:
            raise RelayError("the broker is not in relay.conf any more")
        before, side.connection, side.since = side.connection, connection, now
        return before

    def lost(self, connection: LinkConnection, now: float) -> bool:
        """Note that a connection has ended; return False when another one had replaced it already."""
        side = self.sides.get(spki_pin(connection.peer_spki))
        if side is None or side.connection is not connection:
            return False
        side.connection, side.since = None, now
        return True

    def offered(self, connection: LinkConnection, offer: Offer) -> OfferChange:
        """Take an offer: it replaces what this broker offered before.

        Raises:
            RelayError: the connection has been replaced; its word does not count any more.
        """
        side = self.sides.get(spki_pin(connection.peer_spki))
        if side is None or side.connection is not connection:
            raise RelayError("an offer came over a connection that has been replaced")
        fit: dict[str, OfferedHandle] = {}
        results = []
        for item in offer.items:
            try:
                if item.handle in fit:
                    raise NotOffered(DenyCode.MALFORMED, "the handle stands twice")
                fit[item.handle] = check_item(item, connection.peer_spki)
                results.append(OfferResult(item.handle, 0))
            except NotOffered as refused:
                results.append(OfferResult(item.handle, refused.denied.code, refused.denied.reason))
        removed = tuple(sorted(set(side.handles) - set(fit)))
        self._forget(removed)
        side.handles, side.generation = fit, offer.generation
        return OfferChange(tuple(results), removed)

    def side_of(self, handle: str) -> Optional[BrokerSide]:
        """The broker that offers (or last offered) a handle."""
        return next((side for side in self.sides.values() if handle in side.handles), None)

    def denied(self, handle: str, denied: Denied, now: float) -> None:
        """Remember the last refusal of a handle."""
        if self.side_of(handle) is not None:
            reason = printable(denied.reason)[:MAX_REASON_CHARS]
            self._denials[handle] = LastDeny(int(denied.code), reason, now)

    def status(self, handle: str) -> Optional[dict[str, Any]]:
        """What `status@glideinwms.org` tells about a handle; None for one that is not offered."""
        side = self.side_of(handle)
        if side is None:
            return None
        offered, last = side.handles[handle], self._denials.get(handle)
        return {
            "handle": handle,
            "broker": "up" if side.up else "down",
            "broker_pin": side.pin,
            "name": side.conf.name,
            "frontend": side.conf.frontend,
            "since": int(side.since),
            "purpose": offered.purpose,
            "user": offered.user,
            "hosts": [str(host) for host in offered.hosts],
            "not_before": offered.not_before,
            "not_after": offered.not_after,
            "last_deny": {"code": last.code, "reason": last.reason, "t": last.t} if last else None,
        }

    def broker_status(self) -> list[dict[str, Any]]:
        """One row per broker identity for status.json."""
        return [_side_status(side) for side in self.sides.values()]

    def handles(self) -> Mapping[str, OfferedHandle]:
        """Every handle that is offered, or was by a broker that is away."""
        return {handle: offered for side in self.sides.values() for handle, offered in side.handles.items()}

    def _forget(self, handles: Iterable[str]) -> None:
        for handle in handles:
            self._denials.pop(handle, None)


def _side_status(side: BrokerSide) -> dict[str, Any]:
    link = side.connection
    return {
        "name": side.conf.name,
        "frontend": side.conf.frontend,
        "pin": side.pin,
        "state": "up" if link else "down",
        "since": int(side.since),
        "handles": len(side.handles),
        "outstanding": side.outstanding,
        "address": link.where if link else None,
        "peer_name": link.peer_name if link else None,
        "software": link.peer_hello.software if link and link.peer_hello else None,
        "rtt_ms": round(link.rtt_s * 1000, 1) if link and link.rtt_s is not None else None,
        "clock_skew_s": round(link.clock_skew_s, 1) if link else None,
    }
