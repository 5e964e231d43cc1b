# SPDX-License-Identifier: Apache-2.0
"""Ask a server for its host keys, to be compared by a person and pinned in the site description. Writes nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from glideinwms_bosco import key_scan
from glideinwms_bosco.errors import RemoteError, UnreachableError
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.ssh_errors import classify_ssh_failure


@dataclass(frozen=True)
class ScannedKey:
    """A host key as the server shows it now.

    Attributes:
        type: key type as in known_hosts, e.g. "ssh-ed25519".
        key: the public key blob, base64.
        fingerprint_sha256: "SHA256:..." as `ssh-keygen -l` prints it.
    """

    type: str
    key: str
    fingerprint_sha256: str

    @property
    def line(self) -> str:
        """Return the form that `Endpoint.host_keys` takes."""
        return f"{self.type} {self.key}"


def fingerprint_sha256(key: str) -> str:
    """Return the SHA256 fingerprint of a base64 key blob, as OpenSSH writes it (base64 without padding)."""
    digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def parse_key(line: str, where: str) -> ScannedKey:
    """Parse "TYPE BASE64".

    Raises:
        RemoteError: its second word is no base64.
    """
    kind, _, key = line.partition(" ")
    try:
        return ScannedKey(kind, key, fingerprint_sha256(key))
    except (ValueError, binascii.Error):
        raise RemoteError(f"{where} shows a host key that is none: {line[:80]!r}") from None


def scan_host_keys(host: str, port: int, timeout_s: int = key_scan.TIMEOUT_S) -> tuple[ScannedKey, ...]:
    """Return the host keys a server shows, sorted by type.

    Args:
        host: name or address, validated as in `Endpoint`.
        port: TCP port.
        timeout_s: seconds to wait for each of the connections.

    Raises:
        UnreachableError: when nothing answers there, or what answers shows no key.
        RemoteError: for a malformed host or port, or when ssh-keyscan is missing.
    """
    # Borrow the strict patterns of Endpoint; the key is a placeholder of the right form.
    Endpoint(host, port, "nobody", ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==",))
    found = key_scan.scan(host, port, timeout_s)
    keys = [parse_key(line, found.where) for line in found.keys]
    if keys:
        return tuple(sorted(keys, key=lambda key: (key.type, key.key)))
    failure = classify_ssh_failure(found.trouble, where=found.where, host=host, port=port)
    if found.trouble and isinstance(failure, UnreachableError):
        raise failure
    raise key_scan.no_key(found)
