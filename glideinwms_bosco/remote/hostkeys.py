# SPDX-License-Identifier: Apache-2.0
"""Ask a server for its host keys, to be compared by a person and pinned in the site description. Writes nothing."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
from dataclasses import dataclass

from glideinwms_bosco.errors import RemoteError, UnreachableError
from glideinwms_bosco.remote.connection import Endpoint, bracketed
from glideinwms_bosco.remote.ssh_errors import classify_ssh_failure

KEY_TYPES = "ed25519,ecdsa,rsa"
# ssh-keyscan opens one connection per key type; its own time-out is per connection.
_CONNECTIONS = 3
MAX_SCAN_OUTPUT_BYTES = 65536


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


def parse_key_scan(output: str, endpoint_host: str) -> tuple[ScannedKey, ...]:
    """Parse the standard output of ssh-keyscan (lines `name TYPE BASE64`, comments start with #)."""
    keys: list[ScannedKey] = []
    for line in output.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if len(words) != 3:
                raise ValueError("three words expected")
            keys.append(ScannedKey(words[1], words[2], fingerprint_sha256(words[2])))
        except (ValueError, binascii.Error):
            raise RemoteError(f"ssh-keyscan gave an unexpected line for {endpoint_host}: {line[:80]!r}") from None
    return tuple(sorted(keys, key=lambda key: (key.type, key.key)))


def scan_host_keys(host: str, port: int, timeout_s: int = 10) -> tuple[ScannedKey, ...]:
    """Return the host keys a server shows, sorted by type. They are not authenticated in any way.

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
    argv = ["ssh-keyscan", "-T", str(timeout_s), "-p", str(port), "-t", KEY_TYPES, "--", host]
    where = f"{bracketed(host)}:{port}"
    deadline_s = timeout_s * (_CONNECTIONS + 1)
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=deadline_s, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no host key of {where} within {deadline_s} s") from None
    except OSError as error:
        raise RemoteError(f"ssh-keyscan cannot be run: {error}", "install the OpenSSH client tools") from None
    if len(done.stdout) > MAX_SCAN_OUTPUT_BYTES:
        raise RemoteError(f"ssh-keyscan gave more than {MAX_SCAN_OUTPUT_BYTES} bytes for {where}")
    keys = parse_key_scan(done.stdout.decode("utf-8", "replace"), where)
    if keys:
        return keys
    # Newer ssh-keyscan prints the server's version banner as a comment on stderr too; it explains nothing.
    stderr = done.stderr.decode("utf-8", "replace")
    text = "\n".join(line for line in stderr.splitlines() if not line.startswith("#"))
    failure = classify_ssh_failure(text, where=where, host=host, port=port)
    if text and isinstance(failure, UnreachableError):
        raise failure
    raise UnreachableError(f"{where} shows no host key", "is an ssh server listening there?", text or None)
