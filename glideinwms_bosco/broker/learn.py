# SPDX-License-Identifier: Apache-2.0
"""Ask a host for its keys and say what is new, for a person to compare and accept. Trusts and writes nothing."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from glideinwms_bosco.broker.policy_model import Entry
from glideinwms_bosco.errors import BrokerError, UsageError, WireError
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

KEY_TYPES = "ed25519,ecdsa,rsa"
TIMEOUT_S = 10
# ssh-keyscan opens one connection per key type; its own time-out is per connection.
_CONNECTIONS = 3
MAX_SCAN_BYTES = 65536
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


def scan(host: str, port: int, timeout_s: int = TIMEOUT_S) -> tuple[PublicKey, ...]:
    """Return the keys that a host shows now, sorted by type. They are not authenticated in any way.

    Args:
        timeout_s: seconds to wait for each of the connections.

    Raises:
        UsageError: a malformed host or port.
        BrokerError: no answer, no key, or no ssh-keyscan on this machine.
    """
    if not _HOST.fullmatch(host) or not 0 < port <= MAX_PORT:
        raise UsageError(f"{host[:253]!r} port {port}: no usable address", "give a host name and a port up to 65535")
    where, deadline_s = f"{host}:{port}", timeout_s * (_CONNECTIONS + 1)
    argv = ["ssh-keyscan", "-T", str(timeout_s), "-p", str(port), "-t", KEY_TYPES, "--", host]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BrokerError(f"{where}: no host key within {deadline_s} s") from None
    except OSError as error:
        raise BrokerError(f"ssh-keyscan cannot be run: {error.strerror}", "install the OpenSSH client") from None
    if len(done.stdout) > MAX_SCAN_BYTES:
        raise BrokerError(f"{where}: ssh-keyscan gave more than {MAX_SCAN_BYTES} bytes")
    keys = parse_scan(done.stdout.decode("utf-8", "replace"), where)
    if not keys:
        raise BrokerError(f"{where}: shows no host key", "is an ssh server listening there?")
    return keys


def parse_scan(output: str, where: str) -> tuple[PublicKey, ...]:
    """Parse what ssh-keyscan prints: lines `NAME TYPE BASE64`; comments start with #.

    Raises:
        BrokerError: another line, or a key that could not be verified anyway.
    """
    found: dict[bytes, PublicKey] = {}
    for line in output.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = parse_authorized(line.partition(" ")[2])
        except WireError as error:
            raise BrokerError(f"{where}: a host key that cannot be used: {error.message}") from None
        found[key.blob] = key
    return tuple(sorted(found.values(), key=lambda key: (key.algorithm, key.blob)))


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
