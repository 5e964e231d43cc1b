# SPDX-License-Identifier: Apache-2.0
"""Decide whether a request is signed: every condition must hold, the cheapest is asked first. No I/O and no clock.

What counts as proof of the destination: a session-bind (OpenSSH >= 8.9), or, when none was tried, evidence of the key
exchange. A proof that was tried and does not hold is a refusal; nothing falls back to less.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Optional, Union

from glideinwms_bosco.broker.memory import SessionMemory
from glideinwms_bosco.broker.policy_model import DAY_MINUTES, Entry, Handle, KeyedPolicy
from glideinwms_bosco.broker.rate import RateLimits
from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Sign
from glideinwms_bosco.sshwire.agent import parse_bind
from glideinwms_bosco.sshwire.certificate import (
    Certificate,
    check_host_certificate,
    is_certificate,
    parse_certificate,
)
from glideinwms_bosco.sshwire.handle import MAINTAIN
from glideinwms_bosco.sshwire.keys import PublicKey, fingerprint, verify
from glideinwms_bosco.sshwire.userauth import UserauthRequest, parse_userauth

PROOF_BIND = "session-bind"
PROOF_EVIDENCE = "kex-evidence"
PROOF_NONE = "none"
DAY_S = 86400
# 1970-01-01 was a Thursday.
EPOCH_WEEKDAY = 3


@dataclass(frozen=True)
class Allowed:
    """What is to be signed, and what the audit log says about it.

    Attributes:
        handle: handle and entry.
        key: that signs.
        factory: name of the factory that asks.
        data: the bytes to sign.
        algorithm: of the signature, such as "rsa-sha2-512".
        flags: of the agent's sign request that give this algorithm.
        proof: PROOF_BIND, PROOF_EVIDENCE or PROOF_NONE.
        host: name of the registered host; None without proof.
        host_fingerprint: of the key that the host has proved to have; None without proof.
        session_id_sha256: hex; the id itself is not logged.
        certificate: the user certificate in the request; None for the bare key.
    """

    handle: Handle
    key: PublicKey
    factory: str
    data: bytes
    algorithm: str
    flags: int
    proof: str
    host: Optional[str]
    host_fingerprint: Optional[str]
    session_id_sha256: str
    certificate: Optional[Certificate]


@dataclass(frozen=True)
class _Proof:
    kind: str
    host: Optional[str] = None
    fingerprint: Optional[str] = None


class _RefusedError(Exception):
    """Leaves the row of checks; never leaves this module."""

    def __init__(self, denied: Denied) -> None:
        super().__init__(denied.reason)
        self.denied = denied


def _refuse(code: DenyCode, reason: str, retry_after_s: int = 0) -> NoReturn:
    raise _RefusedError(Denied(code, reason, retry_after_s))


def decide(
    policy: KeyedPolicy,
    request: Sign,
    factory_pin: str,
    now: float,
    memory: SessionMemory,
    rates: RateLimits,
    opened: Mapping[str, float],
    certificates: Optional[Mapping[str, Sequence[Certificate]]] = None,
) -> Union[Allowed, Denied]:
    """Decide about one request.

    Args:
        factory_pin: pin of the TLS key of the connection that the request came by.
        now: unix seconds.
        memory: remembers the session of an allowed request.
        rates: gives a token to each request that comes as far as the rate.
        opened: entry name -> unix seconds until which its maintenance handle is open.
        certificates: handle -> user certificates that this broker has issued.

    Returns:
        Allowed or Denied; nothing is raised for whatever stands in the request.
    """
    try:
        handle, factory = _asked(policy, request, factory_pin)
        _check_time(handle, now, opened)
        retry_after_s = rates.take(handle.handle, factory, handle.entry.rate_of(handle.purpose), now)
        if retry_after_s:
            _refuse(DenyCode.RATE, f"too many signatures for {handle.entry.name}", retry_after_s)
        auth = _userauth(request.data)
        if auth.user != handle.entry.user:
            _refuse(DenyCode.USER, f"user {_quoted(auth.user)} is not {handle.entry.user}")
        key, certificate = _check_key(handle, auth, now, (certificates or {}).get(handle.handle, ()))
        algorithm = _check_algorithm(auth, request.flags)
        proof = _proof(handle.entry, auth, request, now)
        if not memory.admit(handle.handle, auth.session_id, request.data, now):
            _refuse(DenyCode.REPLAY, "this session id was used for another request")
    except _RefusedError as refused:
        return refused.denied
    return Allowed(
        handle=handle,
        key=key,
        factory=factory,
        data=request.data,
        algorithm=algorithm,
        flags=request.flags,
        proof=proof.kind,
        host=proof.host,
        host_fingerprint=proof.fingerprint,
        session_id_sha256=hashlib.sha256(auth.session_id).hexdigest(),
        certificate=certificate,
    )


def _asked(policy: KeyedPolicy, request: Sign, factory_pin: str) -> tuple[Handle, str]:
    handle = policy.handles.get(request.handle)
    if handle is None:
        _refuse(DenyCode.UNKNOWN_HANDLE, "this broker has no such handle")
    if not handle.entry.enabled:
        _refuse(DenyCode.DISABLED, f"{handle.entry.name} is disabled")
    factory = policy.factory_of(handle, factory_pin)
    if factory is None:
        _refuse(DenyCode.FACTORY, f"this factory is not registered for {handle.entry.name}")
    return handle, factory.name


def _check_time(handle: Handle, now: float, opened: Mapping[str, float]) -> None:
    entry = handle.entry
    if entry.not_before is not None and now < entry.not_before:
        _refuse(DenyCode.NOT_NOW, f"{entry.name} is not valid yet", _whole_seconds(entry.not_before - now))
    if entry.not_after is not None and now >= entry.not_after:
        _refuse(DenyCode.NOT_NOW, f"{entry.name} is not valid any more")
    if not _within_hours(entry, now):
        _refuse(DenyCode.NOT_NOW, f"{entry.name} does not sign at this hour")
    if handle.purpose == MAINTAIN and now >= opened.get(entry.name, 0.0):
        _refuse(DenyCode.PURPOSE_CLOSED, f"maintenance of {entry.name} is closed; the frontend opens it: key open")


def _within_hours(entry: Entry, now: float) -> bool:
    day, second = divmod(int(now), DAY_S)
    minute = second * DAY_MINUTES // DAY_S
    weekday = (day + EPOCH_WEEKDAY) % 7
    return not entry.hours or any(
        weekday in hours.days and hours.from_minute <= minute < hours.to_minute for hours in entry.hours
    )


def _whole_seconds(seconds: float) -> int:
    return int(-(-seconds // 1))


def _quoted(text: str) -> str:
    """Outside text in a reason: one printable line, cut."""
    return repr(text[:64])


def _userauth(data: bytes) -> UserauthRequest:
    try:
        return parse_userauth(data)
    except WireError as error:
        _refuse(DenyCode.MALFORMED, error.message)


def _check_key(
    handle: Handle, auth: UserauthRequest, now: float, certificates: Sequence[Certificate]
) -> tuple[PublicKey, Optional[Certificate]]:
    """The key that the request is for, and the certificate that it is for."""
    for key in handle.keys:
        if auth.key_blob == key.blob:
            return key, None
        for certificate in certificates:
            # Byte for byte one of ours: what a certificate says is then what we have put into it.
            if certificate.blob == auth.key_blob and certificate.key.blob == key.blob:
                if not certificate.valid_after <= now < certificate.valid_before:
                    _refuse(DenyCode.KEY, "the certificate is not valid at this time")
                return key, certificate
    _refuse(DenyCode.KEY, "the request is for another key or certificate than this handle's")


def _check_algorithm(auth: UserauthRequest, flags: int) -> str:
    try:
        algorithm, wanted = auth.signature_algorithm, auth.agent_flags
    except WireError as error:
        _refuse(DenyCode.ALGORITHM, error.message)
    # Checked for every key type: a wrong name would be signed with an algorithm that the request does not say.
    if flags != wanted:
        _refuse(DenyCode.ALGORITHM, f"flags {flags} do not ask for {algorithm}")
    return algorithm


def _proof(entry: Entry, auth: UserauthRequest, request: Sign, now: float) -> _Proof:
    if request.binds:
        return _bind_proof(entry, auth, request.binds, now)
    if _bind_was_attempted(request.context):
        _refuse(DenyCode.NO_PROOF, "the client's session-bind failed at the relay")
    if request.evidence:
        return _evidence_proof(entry, auth, request.evidence, now)
    if not entry.unproven:
        _refuse(DenyCode.NO_PROOF, "no proof of the destination: neither session-bind nor evidence of the key exchange")
    if auth.host_key is not None:
        # The client says where it logs in, and an honest server would check it: at least that must be registered.
        _registered(entry, auth.host_key, now)
    return _Proof(PROOF_NONE)


def _bind_was_attempted(context: str) -> bool:
    """Read the relay's word that a bind was tried. It can only make the decision stricter, so it may be believed."""
    try:
        claimed = json.loads(context)
    except (ValueError, RecursionError):
        return False
    return isinstance(claimed, dict) and claimed.get("bind_attempted") is True


def _bind_proof(entry: Entry, auth: UserauthRequest, binds: Sequence[bytes], now: float) -> _Proof:
    if len(binds) != 1:
        _refuse(DenyCode.FORWARDED, f"{len(binds)} session binds: a forwarded agent")
    try:
        bind = parse_bind(binds[0])
    except WireError as error:
        _refuse(DenyCode.MALFORMED, error.message)
    if bind.is_forwarding:
        _refuse(DenyCode.FORWARDED, "the session is bound for agent forwarding")
    if bind.session_id != auth.session_id:
        _refuse(DenyCode.SESSION_ID, "the session-bind is for another session")
    host, key = _registered(entry, bind.host_key, now)
    try:
        verify(key, bind.signature, auth.session_id)
    except WireError as error:
        _refuse(DenyCode.HOST_SIGNATURE, f"the host's signature does not hold: {error.message}")
    if auth.host_key is not None and auth.host_key != bind.host_key:
        _refuse(DenyCode.HOSTBOUND, "the request names another host key than the session-bind")
    return _Proof(PROOF_BIND, host, key.fingerprint)


def _evidence_proof(entry: Entry, auth: UserauthRequest, evidence: Sequence[tuple[bytes, bytes]], now: float) -> _Proof:
    """Any one item that holds is enough: the tap may have seen more than one key exchange message."""
    refused: Optional[_RefusedError] = None
    for host_key, signature in evidence:
        try:
            host, key = _registered(entry, host_key, now)
            verify(key, signature, auth.session_id)
        except WireError as error:
            reason = f"the host's signature does not hold: {error.message}"
            refused = _RefusedError(Denied(DenyCode.HOST_SIGNATURE, reason))
        except _RefusedError as error:
            refused = refused or error
        else:
            if auth.host_key is not None and auth.host_key != host_key:
                _refuse(DenyCode.HOSTBOUND, "the request names another host key than the key exchange")
            return _Proof(PROOF_EVIDENCE, host, key.fingerprint)
    if refused is None:
        _refuse(DenyCode.NO_PROOF, "no evidence of the key exchange")
    raise refused


def _registered(entry: Entry, blob: bytes, now: float) -> tuple[str, PublicKey]:
    """The host and the plain key behind a host key or host certificate."""
    for host in entry.hosts:
        for key in host.keys:
            if key.blob == blob:
                return host.name, key
    if not is_certificate(blob):
        _refuse(DenyCode.HOST_KEY, f"host key {fingerprint(blob)} is not registered for {entry.name}")
    try:
        certificate = parse_certificate(blob)
    except WireError as error:
        _refuse(DenyCode.HOST_KEY, error.message)
    for host in entry.hosts:
        if certificate.key in host.keys:
            # A server that has a certificate shows it also to who knows only its key; ssh then takes the key, too.
            return host.name, certificate.key
    reason = f"host certificate: signed by a CA that is not registered, {certificate.ca.fingerprint}"
    for host in entry.hosts:
        cas: Collection[bytes] = [ca.blob for ca in host.cas]
        if certificate.ca.blob in cas:
            try:
                check_host_certificate(certificate, cas, (host.name,), int(now))
            except WireError as error:
                reason = error.message
            else:
                return host.name, certificate.key
    _refuse(DenyCode.HOST_KEY, reason)
