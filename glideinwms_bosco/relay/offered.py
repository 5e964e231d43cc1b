# SPDX-License-Identifier: Apache-2.0
"""Check what a broker offers before a word of it reaches a file that ssh reads.

User, host names and known_hosts lines come from another administrator's machine and end in the factory's ssh
configuration. Each is parsed and written anew; nothing is passed through.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import OfferItem
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, handle_id, is_anchor_of, spki_pin
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized, parse_public_key

MAX_HOSTS = 32
MAX_KNOWN_HOSTS_LINES = 128
MAX_KNOWN_HOSTS_CHARS = 32768
MAX_CERT_BYTES = 16384
MAX_HOST_NAME_CHARS = 253  # RFC 1035 section 2.3.4, without the final dot
SSH_PORT = 22

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
# A leading '-' would be an option of ssh; '@', '%', blanks and quotes have a meaning in ssh_config.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
# sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. A line of any other form is refused, also a hashed name: whose is it?
_MARKERS = ("@cert-authority", "@revoked")


@dataclass(frozen=True)
class Host:
    """One ssh server: name in small letters, or an address; an IPv6 address without brackets."""

    name: str
    port: int

    @property
    def known_hosts_name(self) -> str:
        """As known_hosts spells it: the port only when it is unusual."""
        return self.name if self.port == SSH_PORT else f"[{self.name}]:{self.port}"

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True)
class OfferedHandle:
    """A handle that its broker may offer and that is fit to be served.

    Attributes:
        handle: 26 characters.
        pin: SPKI pin of the broker.
        purpose: SUBMIT or MAINTAIN.
        user: account on the hosts.
        hosts: where the key is meant to be used.
        key: the real public key.
        cert_blob: user certificate; empty without one.
        known_hosts: lines written by us, each for offered hosts only.
        not_before: unix seconds; 0 for no limit.
        not_after: unix seconds; 0 for no limit.
    """

    handle: str
    pin: str
    purpose: str
    user: str
    hosts: tuple[Host, ...]
    key: PublicKey
    cert_blob: bytes
    known_hosts: tuple[str, ...]
    not_before: int = 0
    not_after: int = 0


class NotOffered(Exception):
    """The item cannot be served; `denied` goes back to the broker."""

    def __init__(self, code: DenyCode, reason: str) -> None:
        super().__init__(reason)
        self.denied = Denied(code, reason)


def check_item(item: OfferItem, broker_spki: bytes) -> OfferedHandle:
    """Check one offered handle.

    Args:
        broker_spki: SubjectPublicKeyInfo of the TLS peer (DER).

    Raises:
        NotOffered: with the code for OFFER_ACK.
    """
    if item.purpose not in (SUBMIT, MAINTAIN):
        raise NotOffered(DenyCode.MALFORMED, f"purpose {item.purpose[:20]!r} is not known")
    named = is_anchor_of(item.anchor, item.pubkey_blob)
    if not named or item.handle != handle_id(broker_spki, item.anchor, item.purpose):
        raise NotOffered(DenyCode.NOT_YOURS, "the handle is not the one of this broker, key and purpose")
    try:
        key = parse_public_key(item.pubkey_blob)
    except WireError as err:
        raise NotOffered(DenyCode.KEY, err.message) from None
    if not _USER.fullmatch(item.user):
        raise NotOffered(DenyCode.MALFORMED, f"user name {item.user[:40]!r} cannot be used")
    if len(item.cert_blob) > MAX_CERT_BYTES:
        raise NotOffered(DenyCode.MALFORMED, f"certificate of {len(item.cert_blob)} bytes")
    hosts = _hosts(item.hosts)
    return OfferedHandle(
        handle=item.handle,
        pin=spki_pin(broker_spki),
        purpose=item.purpose,
        user=item.user,
        hosts=hosts,
        key=key,
        cert_blob=item.cert_blob,
        known_hosts=_known_hosts(item.known_hosts_text, hosts),
        not_before=item.not_before,
        not_after=item.not_after,
    )


def parse_host(text: str) -> Host:
    """Read `name:port` or `[address]:port`.

    Raises:
        NotOffered: it has another form.
    """
    name, _, port = text.rpartition(":")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    named = len(bare) <= MAX_HOST_NAME_CHARS and _HOST_NAME.fullmatch(bare) and bare == name
    if not (named or (bare != name and _is_ipv6(bare))) or not _PORT.fullmatch(port) or int(port) > 65535:
        raise NotOffered(DenyCode.MALFORMED, f"host {text[:80]!r} is not of the form name:port, in small letters")
    return Host(bare, int(port))


def _is_ipv6(text: str) -> bool:
    try:
        return str(ipaddress.IPv6Address(text)) == text and "%" not in text
    except ValueError:
        return False


def _hosts(text: str) -> tuple[Host, ...]:
    names = text.split(",")
    if len(names) > MAX_HOSTS:
        raise NotOffered(DenyCode.MALFORMED, f"{len(names)} hosts, at most {MAX_HOSTS} can be offered")
    hosts = tuple(parse_host(name) for name in names)
    if len(set(hosts)) != len(hosts):
        raise NotOffered(DenyCode.MALFORMED, "a host stands twice")
    return hosts


def _known_hosts(text: str, hosts: tuple[Host, ...]) -> tuple[str, ...]:
    if len(text) > MAX_KNOWN_HOSTS_CHARS:
        raise NotOffered(DenyCode.MALFORMED, f"known_hosts of {len(text)} characters")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines or len(lines) > MAX_KNOWN_HOSTS_LINES:
        raise NotOffered(DenyCode.MALFORMED, f"known_hosts of {len(lines)} lines")
    names = frozenset(host.known_hosts_name for host in hosts)
    return tuple(_known_hosts_line(line, names) for line in lines)


def _known_hosts_line(line: str, names: frozenset[str]) -> str:
    words = line.split(" ")
    marker = [words.pop(0)] if words[0] in _MARKERS else []
    if len(words) != 3 or not line.isprintable():
        raise NotOffered(DenyCode.MALFORMED, f"known_hosts line {line[:60]!r} is not '[marker] hosts type key'")
    foreign = [name for name in words[0].split(",") if name not in names]
    if foreign:
        raise NotOffered(DenyCode.MALFORMED, f"known_hosts names {foreign[0][:80]!r}, which is not offered")
    try:
        key = parse_authorized(f"{words[1]} {words[2]}")
    except WireError as err:
        raise NotOffered(DenyCode.MALFORMED, f"known_hosts: {err.message}") from None
    return " ".join([*marker, words[0], key.authorized])
