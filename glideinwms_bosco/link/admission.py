# SPDX-License-Identifier: Apache-2.0
"""Whether the peer of a finished handshake may stay, and what the administrator reads when there is no link."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.tls import ALPN, Identity, SslEnd, peer_spki
from glideinwms_bosco.sshwire.handle import spki_pin

Admit = Callable[[SslEnd], bytes]
"""Returns the peer's SubjectPublicKeyInfo; raises LinkError for a peer that may not stay."""


def of_relay(where: str, pins: Collection[str]) -> Admit:
    """The broker's test of a relay.

    Args:
        where: `host:port`, for messages.
        pins: those registered for this relay; two while it changes its key.
    """
    registered = frozenset(pins)

    def admit(tls: SslEnd) -> bytes:
        spki = _spki(where, tls)
        pin = spki_pin(spki)
        if pin in registered:
            return spki
        raise LinkError(
            f"relay {where} shows the key {pin}, registered is {' or '.join(sorted(registered)) or 'none'}",
            "ask its administrator: if the relay has a new key, register that pin; if not, somebody else answers there",
        )

    return admit


def of_broker(where: str, lookup: Callable[[bytes], bool]) -> Admit:
    """The relay's test of a broker.

    Args:
        where: `address:port`, for messages.
        lookup: is the broker with this SubjectPublicKeyInfo registered?
    """

    def admit(tls: SslEnd) -> bytes:
        spki = _spki(where, tls)
        if lookup(spki):
            return spki
        raise LinkError(
            f"{where} shows the key {spki_pin(spki)}, and no broker is registered with it",
            "if the frontend's administrator confirms it, register it; if not, ignore the attempt",
        )

    return admit


def _spki(where: str, tls: SslEnd) -> bytes:
    if tls.selected_alpn_protocol() != ALPN:
        raise LinkError(f"{where} does not offer {ALPN} in TLS", "something else than a broker or relay is there")
    try:
        return peer_spki(tls)
    except LinkError as error:
        raise LinkError(f"{where}: {error.message}", error.hint) from error


_NO_TLS = "{where} does not speak TLS", "is the port right, and does no web server or proxy stand in between?"
_OLD_TLS = "{where} offers no TLS 1.3", "nothing older is spoken; is something in between that changes TLS?"
_REFUSED = "{where} does not accept our certificate, key {own}", "give this pin to the other end's administrator"
_NO_CERTIFICATE = "{where} shows no certificate", "it is no broker; if it should be one, look at its settings"
_NOT_OURS = (
    "{where} shows a certificate that was not accepted: {detail}",
    "the certificates of both ends are those that our own tools make (init)",
)

# OpenSSL's reason, or a part of it -> what it means here. Source: OpenSSL sslerr.h; the words differ by version.
_HANDSHAKE_WORDS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", _NO_CERTIFICATE),
    ("CERTIFICATE_VERIFY_FAILED", _NOT_OURS),
    ("ALERT_PROTOCOL_VERSION", _OLD_TLS),
    ("UNSUPPORTED_PROTOCOL", _OLD_TLS),
    ("WRONG_VERSION_NUMBER", _NO_TLS),
    ("HTTP_REQUEST", _NO_TLS),
    ("HTTPS_PROXY_REQUEST", _NO_TLS),
    ("PACKET_LENGTH_TOO_LONG", _NO_TLS),
    ("RECORD_LAYER_FAILURE", _NO_TLS),
    ("ALERT_CERTIFICATE_REQUIRED", _REFUSED),
    ("ALERT_UNKNOWN_CA", _REFUSED),
    ("ALERT_BAD_CERTIFICATE", _REFUSED),
    ("ALERT_UNSUPPORTED_CERTIFICATE", _REFUSED),
    ("ALERT_CERTIFICATE_EXPIRED", _REFUSED),
    ("ALERT_CERTIFICATE_UNKNOWN", _REFUSED),
)


def connection_error(where: str, identity: Identity, error: Exception, doing: str) -> LinkError:
    """Word what the system or OpenSSL says for the administrator.

    Args:
        doing: what was under way, such as `TLS handshake`; used when no closer word is known.
    """
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    for part, (message, hint) in _HANDSHAKE_WORDS:
        if part in reason:
            detail = getattr(error, "verify_message", "") or reason.lower().replace("_", " ")
            return LinkError(message.format(where=where, own=identity.pin, detail=detail), hint)
    words = reason.lower().replace("_", " ") or getattr(error, "strerror", None) or str(error)
    if isinstance(error, TimeoutError):
        return LinkError(f"{where}: {doing} failed: no answer in time", "is a firewall in between?")
    if not words:
        return LinkError(
            f"{where}: {doing} failed: closed without a word", "is a relay there, and does it offer TLS 1.3?"
        )
    return LinkError(f"{where}: {doing} failed: {words}")
