# SPDX-License-Identifier: Apache-2.0
"""Ask a host for its keys and say what is new, for a person to compare and accept. Trusts and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glideinwms_bosco import key_scan
from glideinwms_bosco.broker.policy_model import Entry
from glideinwms_bosco.errors import BrokerError, UsageError, WireError
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

MAX_PORT = 65535

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Proposal:
    """What a host shows, against what is registered.

    Attributes:
        known: shown and registered.
        new: shown and not registered: nobody has vouched for them.
        missing: registered and not shown; other machines behind the name may have them.
    """

    host: str
    port: int
    known: tuple[PublicKey, ...]
    new: tuple[PublicKey, ...]
    missing: tuple[PublicKey, ...]

    @property
    def changed(self) -> bool:
        """Whether the host shows none of its registered keys: a new host key, or another machine in between."""
        return bool(self.new and self.missing and not self.known)


def scan(host: str, port: int, timeout_s: int = key_scan.TIMEOUT_S) -> tuple[PublicKey, ...]:
    """Return the keys that a host shows now, sorted by type.

    Args:
        timeout_s: seconds to wait for each of the connections.

    Raises:
        UsageError: a malformed host or port.
        RemoteError: no answer, no key, or no ssh-keyscan on this machine.
        BrokerError: a key that could not be verified anyway.
    """
    if not _HOST.fullmatch(host) or not 0 < port <= MAX_PORT:
        raise UsageError(f"{host[:253]!r} port {port}: no usable address", "give a host name and a port up to 65535")
    found = key_scan.scan(host, port, timeout_s)
    if not found.keys:
        raise key_scan.no_key(found)
    keys = {key.blob: key for key in (parse_key(line, found.where) for line in found.keys)}
    return tuple(sorted(keys.values(), key=lambda key: (key.algorithm, key.blob)))


def parse_key(line: str, where: str) -> PublicKey:
    """Parse "TYPE BASE64".

    Raises:
        BrokerError: a key that could not be verified anyway.
    """
    try:
        return parse_authorized(line)
    except WireError as error:
        raise BrokerError(f"{where}: a host key that cannot be used: {error.message}") from None


def propose(entry: Entry, host: str, port: int, found: Sequence[PublicKey]) -> Proposal:
    """Compare the keys that a host shows with those registered for it in an entry."""
    registered = [
        key for known in entry.hosts if (known.name, known.port) == (host.lower(), port) for key in known.keys
    ]
    blobs, shown = {key.blob for key in registered}, {key.blob for key in found}
    return Proposal(
        host=host.lower(),
        port=port,
        known=tuple(key for key in found if key.blob in blobs),
        new=tuple(key for key in found if key.blob not in blobs),
        missing=tuple(key for key in registered if key.blob not in shown),
    )


def accepted(proposal: Proposal, fingerprints: Sequence[str]) -> tuple[PublicKey, ...]:
    """The new keys that a person has named by their fingerprint.

    Raises:
        UsageError: a fingerprint that the host does not show.
    """
    by_fingerprint = {key.fingerprint: key for key in (*proposal.new, *proposal.known)}
    for fingerprint in fingerprints:
        if fingerprint not in by_fingerprint:
            shown = ", ".join(sorted(by_fingerprint)) or "none"
            raise UsageError(f"{proposal.host} does not show a key {fingerprint[:64]!r}", f"it shows: {shown}")
    return tuple(by_fingerprint[fingerprint] for fingerprint in dict.fromkeys(fingerprints))
