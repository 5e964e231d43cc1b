# SPDX-License-Identifier: Apache-2.0
"""The ssh agent protocol, as much of it as a relay for signatures speaks: list, sign, bind, evidence, status.

Bodies are without their uint32 length in front. Keys and signatures stay opaque here; `keys` and `certificate` judge
them. Everything else an agent could be asked for (add, remove, lock, smart cards) parses as `Unsupported`.

Source: PROTOCOL.agent of OpenSSH, and its section on session-bind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire.primitives import UINT32_MAX, Reader, boolean, byte, string, text, uint32

SSH_AGENT_FAILURE = 5
SSH_AGENT_SUCCESS = 6
SSH_AGENTC_REQUEST_IDENTITIES = 11
SSH_AGENT_IDENTITIES_ANSWER = 12
SSH_AGENTC_SIGN_REQUEST = 13
SSH_AGENT_SIGN_RESPONSE = 14
SSH_AGENTC_REMOVE_IDENTITY = 18
SSH_AGENTC_EXTENSION = 27
SSH_AGENT_EXTENSION_FAILURE = 28

SSH_AGENT_RSA_SHA2_256 = 2
SSH_AGENT_RSA_SHA2_512 = 4

SESSION_BIND = "session-bind@openssh.com"
KEX_EVIDENCE = "kex-evidence@glideinwms.org"
STATUS = "status@glideinwms.org"

# AGENT_MAX_LEN of OpenSSH's ssh-agent.c.
MAX_MESSAGE_BYTES = 262144
# A host certificate: two RSA keys of 8192 bits and a signature take 3.2 KiB, the rest is for principals.
MAX_KEY_BLOB_BYTES = 8192
MAX_SIGNATURE_BYTES = 2048
MAX_EXTENSION_NAME_CHARS = 255
MAX_IDENTITIES = 2048
MAX_HANDLE_BYTES = 64
# The output of the hash of the key exchange: SHA-1, SHA-256, SHA-384, SHA-512.
SESSION_ID_SIZES = (20, 32, 48, 64)


@dataclass(frozen=True)
class ListIdentities:
    """SSH_AGENTC_REQUEST_IDENTITIES."""


@dataclass(frozen=True)
class SignRequest:
    """SSH_AGENTC_SIGN_REQUEST; flags are SSH_AGENT_RSA_SHA2_256 and _512."""

    key_blob: bytes
    data: bytes
    flags: int


@dataclass(frozen=True)
class SessionBind:
    """session-bind@openssh.com: the server's host key signed this session id.

    Attributes:
        host_key: public key or certificate blob of the server.
        session_id: exchange hash of the first key exchange; 20, 32, 48 or 64 bytes.
        signature: SSH signature blob over the session id.
        is_forwarding: the agent connection is being forwarded to that server.
    """

    host_key: bytes
    session_id: bytes
    signature: bytes
    is_forwarding: bool

    @property
    def body(self) -> bytes:
        """The four values as on the wire, without message type and extension name."""
        return string(self.host_key) + string(self.session_id) + string(self.signature) + boolean(self.is_forwarding)


@dataclass(frozen=True)
class KexEvidence:
    """kex-evidence@glideinwms.org: what a tap saw of the key exchange; ssh_pid is the ssh process it works for."""

    host_key: bytes
    signature: bytes
    ssh_pid: int


@dataclass(frozen=True)
class StatusQuery:
    """status@glideinwms.org: how is the broker of this handle?"""

    handle: str


@dataclass(frozen=True)
class Unsupported:
    """Any other request: answer `failure()`. `extension` is empty unless kind is SSH_AGENTC_EXTENSION."""

    kind: int
    extension: str


Request = Union[ListIdentities, SignRequest, SessionBind, KexEvidence, StatusQuery, Unsupported]


def _bounded(value: bytes, limit_bytes: int, what: str) -> bytes:
    if not value or len(value) > limit_bytes:
        raise WireError(f"{what}: {len(value)} bytes, allowed are 1 to {limit_bytes}")
    return value


def _read_bind(reader: Reader) -> SessionBind:
    host_key = _bounded(reader.string(), MAX_KEY_BLOB_BYTES, "session-bind: host key")
    session_id = reader.string()
    if len(session_id) not in SESSION_ID_SIZES:
        raise WireError(f"session-bind: session id of {len(session_id)} bytes")
    signature = _bounded(reader.string(), MAX_SIGNATURE_BYTES, "session-bind: signature")
    bind = SessionBind(host_key, session_id, signature, reader.boolean())
    reader.end()
    return bind


def _read_evidence(reader: Reader) -> KexEvidence:
    host_key = _bounded(reader.string(), MAX_KEY_BLOB_BYTES, "kex-evidence: host key")
    signature = _bounded(reader.string(), MAX_SIGNATURE_BYTES, "kex-evidence: signature")
    evidence = KexEvidence(host_key, signature, reader.uint32())
    reader.end()
    return evidence


def _read_status(reader: Reader) -> StatusQuery:
    handle = reader.text()
    reader.end()
    if not 0 < len(handle) <= MAX_HANDLE_BYTES or not handle.isascii() or not handle.isalnum():
        raise WireError("status: not a handle")
    return StatusQuery(handle)


def _read_sign(reader: Reader) -> SignRequest:
    key_blob = _bounded(reader.string(), MAX_KEY_BLOB_BYTES, "sign request: key")
    request = SignRequest(key_blob, reader.string(), reader.uint32())
    reader.end()
    return request


def _read_extension(reader: Reader) -> Request:
    name = reader.text()
    if not 0 < len(name) <= MAX_EXTENSION_NAME_CHARS:
        raise WireError(f"agent message: extension name of {len(name)} characters")
    if name == SESSION_BIND:
        return _read_bind(reader)
    if name == KEX_EVIDENCE:
        return _read_evidence(reader)
    if name == STATUS:
        return _read_status(reader)
    return Unsupported(SSH_AGENTC_EXTENSION, name)


def _reader(body: bytes) -> Reader:
    if len(body) > MAX_MESSAGE_BYTES:
        raise WireError(f"agent message: {len(body)} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
    return Reader(body, "agent message")


def parse_request(body: bytes) -> Request:
    """Parse what a client sent.

    Raises:
        WireError: a message of a known kind that does not parse. A session-bind that does not parse is still an
            attempt to bind: see `is_bind_attempt`.
    """
    reader = _reader(body)
    kind = reader.byte()
    if kind == SSH_AGENTC_REQUEST_IDENTITIES:
        reader.end()
        return ListIdentities()
    if kind == SSH_AGENTC_SIGN_REQUEST:
        return _read_sign(reader)
    if kind == SSH_AGENTC_EXTENSION:
        return _read_extension(reader)
    return Unsupported(kind, "")


def is_bind_attempt(body: bytes) -> bool:
    """Return whether a message wants to be a session-bind, be it well formed or not.

    A connection on which a bind was tried and failed must not count as one without a bind (OpenSSH made that mistake
    once), so the relay has to know of attempts that `parse_request` refuses.
    """
    return body.startswith(byte(SSH_AGENTC_EXTENSION) + text(SESSION_BIND))


def parse_bind(body: bytes) -> SessionBind:
    """Parse the four values of a session-bind (`SessionBind.body`).

    Raises:
        WireError: they do not parse.
    """
    return _read_bind(Reader(body, "session-bind"))


def failure() -> bytes:
    """The answer SSH_AGENT_FAILURE."""
    return byte(SSH_AGENT_FAILURE)


def success() -> bytes:
    """The answer SSH_AGENT_SUCCESS."""
    return byte(SSH_AGENT_SUCCESS)


def identities(keys: Iterable[tuple[bytes, str]]) -> bytes:
    """The answer to a list request: pairs of key blob and comment."""
    listed = [string(blob) + text(comment) for blob, comment in keys]
    return byte(SSH_AGENT_IDENTITIES_ANSWER) + uint32(len(listed)) + b"".join(listed)


def signature(sig_blob: bytes) -> bytes:
    """The answer to a sign request, around an SSH signature blob."""
    return byte(SSH_AGENT_SIGN_RESPONSE) + string(sig_blob)


def status_answer(json_text: str) -> bytes:
    """The answer to a status query."""
    return byte(SSH_AGENT_SUCCESS) + text(json_text)


def list_request() -> bytes:
    """Ask for the identities."""
    return byte(SSH_AGENTC_REQUEST_IDENTITIES)


def sign_request(key_blob: bytes, data: bytes, flags: int = 0) -> bytes:
    """Ask for a signature over data; flags choose the hash of an RSA key."""
    return byte(SSH_AGENTC_SIGN_REQUEST) + string(key_blob) + string(data) + uint32(flags)


def remove_request(key_blob: bytes) -> bytes:
    """Ask an agent to drop a key."""
    return byte(SSH_AGENTC_REMOVE_IDENTITY) + string(key_blob)


def bind_request(host_key: bytes, session_id: bytes, signature: bytes, is_forwarding: bool = False) -> bytes:
    """Bind the agent connection to a session."""
    bind = SessionBind(host_key, session_id, signature, is_forwarding)
    return byte(SSH_AGENTC_EXTENSION) + text(SESSION_BIND) + bind.body


def evidence_request(host_key: bytes, signature: bytes, ssh_pid: int) -> bytes:
    """Hand over what a tap saw of a key exchange."""
    if not 0 <= ssh_pid <= UINT32_MAX:
        raise WireError(f"kex-evidence: pid {ssh_pid}")
    return byte(SSH_AGENTC_EXTENSION) + text(KEX_EVIDENCE) + string(host_key) + string(signature) + uint32(ssh_pid)


def status_request(handle: str) -> bytes:
    """Ask how the broker of a handle is."""
    return byte(SSH_AGENTC_EXTENSION) + text(STATUS) + text(handle)


def _answer(body: bytes, kind: int, what: str) -> Reader:
    reader = _reader(body)
    answered = reader.byte()
    if answered in (SSH_AGENT_FAILURE, SSH_AGENT_EXTENSION_FAILURE):
        raise WireError(f"the agent refused to {what}")
    if answered != kind:
        raise WireError(f"the agent answered with message type {answered} when asked to {what}")
    return reader


def parse_identities(body: bytes) -> list[tuple[bytes, str]]:
    """Parse the answer to a list request into pairs of key blob and comment.

    Raises:
        WireError: the agent refused, or its answer does not parse.
    """
    reader = _answer(body, SSH_AGENT_IDENTITIES_ANSWER, "list its keys")
    count = reader.uint32()
    if count > MAX_IDENTITIES:
        raise WireError(f"agent message: {count} identities, at most {MAX_IDENTITIES} are allowed")
    listed = [(reader.string(), reader.text()) for _ in range(count)]
    reader.end()
    return listed


def parse_signature(body: bytes) -> bytes:
    """Parse the answer to a sign request into an SSH signature blob.

    Raises:
        WireError: the agent refused, or its answer does not parse.
    """
    reader = _answer(body, SSH_AGENT_SIGN_RESPONSE, "sign")
    sig_blob = _bounded(reader.string(), MAX_SIGNATURE_BYTES, "agent message: signature")
    reader.end()
    return sig_blob


def parse_status(body: bytes) -> str:
    """Parse the answer to a status query into its JSON text.

    Raises:
        WireError: the agent refused, or its answer does not parse.
    """
    reader = _answer(body, SSH_AGENT_SUCCESS, "tell the broker's status")
    json_text = reader.text()
    reader.end()
    return json_text
