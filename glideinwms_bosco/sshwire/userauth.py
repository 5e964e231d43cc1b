# SPDX-License-Identifier: Apache-2.0
"""The one thing a broker signs: a public key login, RFC 4252 section 7, and OpenSSH's host-bound variant of it.

Nothing else parses: no SSHSIG file signature, no host key proof, no certificate request. Whether the user, the key and
the host are the right ones is the broker's decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.agent import (
    MAX_KEY_BLOB_BYTES,
    SESSION_ID_SIZES,
    SSH_AGENT_RSA_SHA2_256,
    SSH_AGENT_RSA_SHA2_512,
)
from glideinwms_bosco.sshwire.primitives import Reader, boolean, byte, string, text

SSH2_MSG_USERAUTH_REQUEST = 50
SERVICE = "ssh-connection"
PUBLICKEY = "publickey"
# PROTOCOL of OpenSSH, "publickey-hostbound-v00@openssh.com": the server's host key follows the user's key.
HOSTBOUND = "publickey-hostbound-v00@openssh.com"
METHODS = (PUBLICKEY, HOSTBOUND)

MAX_USERAUTH_BYTES = 24576
MAX_USER_CHARS = 255
MAX_ALGORITHM_CHARS = 64

_CERT = "-cert-v01@openssh.com"
_ONE_HASH = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
_RSA_FLAGS = {"rsa-sha2-256": SSH_AGENT_RSA_SHA2_256, "rsa-sha2-512": SSH_AGENT_RSA_SHA2_512}

# Public key algorithm of a request -> (type inside its key blob, algorithm of the signature).
# Source: RFC 8332 section 3.2 and PROTOCOL.certkeys; `ssh-rsa` (SHA-1) stands in no row.
_ALGORITHMS: dict[str, tuple[str, str]] = {
    **{name: (name, name) for name in _ONE_HASH},
    **{name + _CERT: (name + _CERT, name) for name in _ONE_HASH},
    **{name: ("ssh-rsa", name) for name in _RSA_FLAGS},
    **{name + _CERT: ("ssh-rsa" + _CERT, name) for name in _RSA_FLAGS},
}


@dataclass(frozen=True)
class UserauthRequest:
    """A login that asks for a signature.

    Attributes:
        session_id: exchange hash of the session; 20, 32, 48 or 64 bytes.
        user: account at the server.
        method: one of METHODS.
        algorithm: public key algorithm, such as `rsa-sha2-512` or `ssh-ed25519-cert-v01@openssh.com`.
        key_blob: the user's public key or certificate.
        host_key: the server's key or certificate; None unless the method is HOSTBOUND.
    """

    session_id: bytes
    user: str
    method: str
    algorithm: str
    key_blob: bytes
    host_key: Optional[bytes]

    @property
    def key_type(self) -> str:
        """The type that stands inside the key blob."""
        return Reader(self.key_blob, "userauth request: key").text()

    @property
    def signature_algorithm(self) -> str:
        """The algorithm the signature must have.

        Raises:
            WireError: the request's algorithm does not exist for the type of its key, or is SHA-1.
        """
        key_type, signature_algorithm = _ALGORITHMS.get(self.algorithm, ("", ""))
        if not key_type or key_type != self.key_type:
            raise WireError(f"userauth request: {self.algorithm!r} does not fit a key of type {self.key_type[:64]!r}")
        return signature_algorithm

    @property
    def agent_flags(self) -> int:
        """The flags of an agent's sign request that give this signature algorithm.

        Raises:
            WireError: as `signature_algorithm`.
        """
        return _RSA_FLAGS.get(self.signature_algorithm, 0)


def _read_name(reader: Reader, limit_chars: int, what: str) -> str:
    name = reader.text()
    if not 0 < len(name) <= limit_chars or not name.isprintable():
        raise WireError(f"userauth request: {what} of {len(name)} characters, allowed are 1 to {limit_chars} printable")
    return name


def _read_key(reader: Reader, what: str) -> bytes:
    blob = reader.string()
    if not 0 < len(blob) <= MAX_KEY_BLOB_BYTES:
        raise WireError(f"userauth request: {what} of {len(blob)} bytes, allowed are 1 to {MAX_KEY_BLOB_BYTES}")
    Reader(blob, f"userauth request: {what}").text()
    return blob


def parse_userauth(data: bytes) -> UserauthRequest:
    """Parse the data of a sign request.

    Raises:
        WireError: it is anything but a public key login with a signature to follow, or bytes follow it.

    Source: RFC 4252 section 7, the data to be signed.
    """
    if len(data) > MAX_USERAUTH_BYTES:
        raise WireError(f"userauth request: {len(data)} bytes, at most {MAX_USERAUTH_BYTES} are allowed")
    reader = Reader(data, "userauth request")
    session_id = reader.string()
    if len(session_id) not in SESSION_ID_SIZES:
        raise WireError(f"userauth request: session id of {len(session_id)} bytes")
    if reader.byte() != SSH2_MSG_USERAUTH_REQUEST:
        raise WireError("userauth request: another message type")
    user = _read_name(reader, MAX_USER_CHARS, "user")
    if reader.text() != SERVICE:
        raise WireError(f"userauth request: service is not {SERVICE}")
    method = reader.text()
    if method not in METHODS:
        raise WireError(f"userauth request: method {method[:64]!r}")
    if not reader.boolean():
        raise WireError("userauth request: it asks for no signature")
    algorithm = _read_name(reader, MAX_ALGORITHM_CHARS, "algorithm")
    key_blob = _read_key(reader, "key")
    host_key = _read_key(reader, "host key") if method == HOSTBOUND else None
    reader.end()
    return UserauthRequest(session_id, user, method, algorithm, key_blob, host_key)


def build_userauth(
    session_id: bytes, user: str, algorithm: str, key_blob: bytes, host_key: Optional[bytes] = None
) -> bytes:
    """Return the data a client has signed; the method is HOSTBOUND if and only if a host key is given."""
    head = string(session_id) + byte(SSH2_MSG_USERAUTH_REQUEST) + text(user) + text(SERVICE)
    method = PUBLICKEY if host_key is None else HOSTBOUND
    tail = b"" if host_key is None else string(host_key)
    return head + text(method) + boolean(True) + text(algorithm) + string(key_blob) + tail
