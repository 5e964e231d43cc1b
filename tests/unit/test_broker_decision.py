# SPDX-License-Identifier: Apache-2.0
"""The broker's decision: start from a request that is signed, change one thing, expect one refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

import pytest

from glideinwms_bosco.broker.decision import PROOF_BIND, PROOF_EVIDENCE, PROOF_NONE, Allowed, decide
from glideinwms_bosco.broker.memory import SessionMemory
from glideinwms_bosco.broker.rate import RateLimits
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Sign
from glideinwms_bosco.sshwire.certificate import Certificate
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, handle_id
from glideinwms_bosco.sshwire.primitives import boolean, byte, string, text
from glideinwms_bosco.sshwire.userauth import build_userauth
from tests.unit.broker_text import (
    ENTRY,
    HOST,
    OTHER_PIN,
    PIN,
    SPKI,
    USER,
    Signer,
    certify,
    changed,
    keyed,
    policy_data,
    signer,
)

NOW = 1_800_000_000.0  # 2027-01-15, a Friday, 08:00 UTC
SID = bytes(range(32))
OTHER_SID = bytes(reversed(range(32)))
YEAR_S = 365 * 86400


@dataclass(frozen=True)
class Case:
    """A request and everything it is decided by. As it stands, it is signed."""

    policy: dict[str, Any] = field(default_factory=policy_data)
    key: Signer = field(default_factory=lambda: signer("user"))
    purpose: str = SUBMIT
    handle: Optional[str] = None
    pin: str = PIN
    now: float = NOW
    opened: dict[str, float] = field(default_factory=dict)
    context: str = "{}"
    sid: bytes = SID
    user: str = USER
    algorithm: str = "ssh-ed25519"
    key_blob: Optional[bytes] = None
    hostbound: Optional[bytes] = None
    data: Optional[bytes] = None
    flags: int = 0
    bound: bool = True
    host: Signer = field(default_factory=lambda: signer("host"))
    host_key: Optional[bytes] = None
    bind_sid: Optional[bytes] = None
    signed: Optional[bytes] = None
    host_algorithm: Optional[str] = None
    forwarding: bool = False
    binds: Optional[tuple[bytes, ...]] = None
    evidence: tuple[tuple[bytes, bytes], ...] = ()
    certificates: Sequence[Certificate] = ()

    def request(self) -> Sign:
        """The message of the relay."""
        handle = self.handle or handle_id(SPKI, self.key.blob, self.purpose)
        key_blob = self.key_blob or self.key.blob
        data = self.data
        if data is None:
            data = build_userauth(self.sid, self.user, self.algorithm, key_blob, self.hostbound)
        binds = self.binds if self.binds is not None else (self.bind(),) * self.bound
        return Sign(handle, self.context, binds, self.evidence, data, self.flags)

    def bind(self) -> bytes:
        """The body of a session-bind."""
        signed = self.sid if self.signed is None else self.signed
        signature = self.host.sign(signed, self.host_algorithm)
        sid = self.sid if self.bind_sid is None else self.bind_sid
        return string(self.host_key or self.host.blob) + string(sid) + string(signature) + boolean(self.forwarding)


def decided(
    case: Case, memory: Optional[SessionMemory] = None, rates: Optional[RateLimits] = None
) -> Union[Allowed, Denied]:
    request = case.request()
    return decide(
        keyed(case.policy, case.key), request, case.pin, case.now, memory if memory is not None else SessionMemory(),
        rates or RateLimits(), case.opened, {request.handle: case.certificates},
    )  # fmt: skip


def proof_by_kex(host: Signer, sid: bytes = SID, blob: Optional[bytes] = None) -> tuple[bytes, bytes]:
    return (blob or host.blob, host.sign(sid))


def entry(name: str, value: Any) -> dict[str, Any]:
    return changed("handles", ENTRY, name, value=value)


def two_hosts() -> dict[str, Any]:
    second = {"name": "login2.example.edu", "port": 2222, "keys": [signer("second").public.authorized]}
    data = policy_data()
    data["handles"][ENTRY]["hosts"].append(second)
    return data


def host_keys(*signers: Signer) -> dict[str, Any]:
    return entry("hosts", [{"name": HOST, "keys": [key.public.authorized for key in signers]}])


def own(algorithm: str) -> Signer:
    return signer("user", algorithm)


UNPROVEN = entry("require", "unproven")
PLAIN = build_userauth(SID, USER, "ssh-ed25519", signer("user").blob)
HEAD = string(SID) + byte(50) + text(USER)
TAIL = text("ssh-ed25519") + string(signer("user").blob)
FRIDAY = {"days": ["fri"], "from": "07:30", "to": "08:30"}

REFUSED: dict[str, tuple[Case, DenyCode]] = {
    # handle, factory
    "handle nobody has": (Case(handle="a" * 26), DenyCode.UNKNOWN_HANDLE),
    "handle with odd text": (Case(handle="../../x\n"), DenyCode.UNKNOWN_HANDLE),
    "maintenance handle that the entry does not have": (
        Case(policy=entry("maintain", False), purpose=MAINTAIN, opened={ENTRY: NOW + 60}),
        DenyCode.UNKNOWN_HANDLE,
    ),
    "submit handle that the entry does not have": (Case(policy=entry("submit", False)), DenyCode.UNKNOWN_HANDLE),
    "another broker's handle of the same key": (
        Case(handle=handle_id(b"another broker", signer("user").blob, SUBMIT)),
        DenyCode.UNKNOWN_HANDLE,
    ),
    "disabled": (Case(policy=entry("enabled", False)), DenyCode.DISABLED),
    "factory of another entry": (Case(pin=OTHER_PIN), DenyCode.FACTORY),
    "factory nobody knows": (Case(pin="sha256:" + "0" * 64), DenyCode.FACTORY),
    "factory taken out of the entry": (Case(policy=entry("factories", [])), DenyCode.FACTORY),
    # time
    "before its time": (Case(policy=entry("not_before", "2027-01-15T08:00:01Z")), DenyCode.NOT_NOW),
    "at the end of its time": (Case(policy=entry("not_after", "2027-01-15T08:00:00Z")), DenyCode.NOT_NOW),
    "on another day": (Case(policy=entry("hours", [{**FRIDAY, "days": ["thu", "sat"]}])), DenyCode.NOT_NOW),
    "before the hour": (Case(policy=entry("hours", [{**FRIDAY, "from": "08:01"}])), DenyCode.NOT_NOW),
    "at the end of the hour": (Case(policy=entry("hours", [{**FRIDAY, "to": "08:00"}])), DenyCode.NOT_NOW),
    "maintenance that was never opened": (Case(purpose=MAINTAIN), DenyCode.PURPOSE_CLOSED),
    "maintenance whose time is over": (Case(purpose=MAINTAIN, opened={ENTRY: NOW}), DenyCode.PURPOSE_CLOSED),
    "maintenance of another entry is open": (Case(purpose=MAINTAIN, opened={"x": NOW + 60}), DenyCode.PURPOSE_CLOSED),
    # what is to be signed
    "nothing": (Case(data=b""), DenyCode.MALFORMED),
    "file signature (ssh-keygen -Y sign)": (
        Case(data=b"SSHSIG" + text("file") + text("") + text("sha512") + string(b"h" * 64)),
        DenyCode.MALFORMED,
    ),
    "proof of host keys": (
        Case(data=text("hostkeys-prove-00@openssh.com") + string(SID) + string(signer("user").blob)),
        DenyCode.MALFORMED,
    ),
    "certificate to be signed": (
        Case(data=text("ssh-ed25519-cert-v01@openssh.com") + string(b"n" * 32) + string(b"k" * 32)),
        DenyCode.MALFORMED,
    ),
    "the bare session id": (Case(data=SID), DenyCode.MALFORMED),
    "one byte too many": (Case(data=PLAIN + b"\0"), DenyCode.MALFORMED),
    "one byte too few": (Case(data=PLAIN[:-1]), DenyCode.MALFORMED),
    "session id of 16 bytes": (Case(sid=SID[:16]), DenyCode.MALFORMED),
    "another message": (Case(data=PLAIN.replace(byte(50) + text(USER), byte(51) + text(USER))), DenyCode.MALFORMED),
    "another service": (
        Case(data=HEAD + text("ssh-userauth") + text("publickey") + boolean(True) + TAIL),
        DenyCode.MALFORMED,
    ),
    "a question without signature": (
        Case(data=HEAD + text("ssh-connection") + text("publickey") + boolean(False) + TAIL),
        DenyCode.MALFORMED,
    ),
    "login by host key": (
        Case(data=HEAD + text("ssh-connection") + text("hostbased") + boolean(True) + TAIL),
        DenyCode.MALFORMED,
    ),
    "hostbound without a host key": (
        Case(data=HEAD + text("ssh-connection") + text("publickey-hostbound-v00@openssh.com") + boolean(True) + TAIL),
        DenyCode.MALFORMED,
    ),
    "another user": (Case(user="root"), DenyCode.USER),
    "user in other letters": (Case(user="CMSpilot"), DenyCode.USER),
    "user with something behind": (Case(user=USER + " "), DenyCode.USER),
    "key of another entry": (Case(key_blob=signer("stranger").blob), DenyCode.KEY),
    # algorithm
    "ed25519 key under an RSA name": (Case(algorithm="rsa-sha2-512", flags=4), DenyCode.ALGORITHM),
    "plain key under a certificate's name": (Case(algorithm="ssh-ed25519-cert-v01@openssh.com"), DenyCode.ALGORITHM),
    "RSA with SHA-1": (Case(key=own("ssh-rsa"), algorithm="ssh-rsa"), DenyCode.ALGORITHM),
    "RSA whose flags ask for SHA-1": (Case(key=own("ssh-rsa"), algorithm="rsa-sha2-512"), DenyCode.ALGORITHM),
    "RSA with the other hash": (Case(key=own("ssh-rsa"), algorithm="rsa-sha2-512", flags=2), DenyCode.ALGORITHM),
    "RSA with both hashes": (Case(key=own("ssh-rsa"), algorithm="rsa-sha2-512", flags=6), DenyCode.ALGORITHM),
    "flags for a key that has none": (Case(flags=4), DenyCode.ALGORITHM),
    "curve of another key": (
        Case(key=own("ecdsa-sha2-nistp256"), algorithm="ecdsa-sha2-nistp384"),
        DenyCode.ALGORITHM,
    ),
    "algorithm nobody knows": (Case(algorithm="none"), DenyCode.ALGORITHM),
    # session-bind
    "two binds": (Case(binds=(Case().bind(), Case().bind())), DenyCode.FORWARDED),
    "bound for forwarding, then for login": (
        Case(binds=(Case(forwarding=True).bind(), Case().bind())),
        DenyCode.FORWARDED,
    ),
    "bound for forwarding": (Case(forwarding=True), DenyCode.FORWARDED),
    "bind that does not parse": (Case(binds=(b"\0\0\0\1",)), DenyCode.MALFORMED),
    "empty bind": (Case(binds=(b"",)), DenyCode.MALFORMED),
    "bind of another session": (Case(bind_sid=OTHER_SID, signed=OTHER_SID), DenyCode.SESSION_ID),
    "bind of another session with a signature over this one": (Case(bind_sid=OTHER_SID), DenyCode.SESSION_ID),
    "host that is not registered": (Case(host=signer("stranger")), DenyCode.HOST_KEY),
    "the user's key as host key": (Case(host=signer("user")), DenyCode.HOST_KEY),
    "registered key, signature of a stranger": (
        Case(host=signer("stranger"), host_key=signer("host").blob),
        DenyCode.HOST_SIGNATURE,
    ),
    "signature of another registered host": (
        Case(policy=two_hosts(), host=signer("second"), host_key=signer("host").blob),
        DenyCode.HOST_SIGNATURE,
    ),
    "signature over another session": (Case(signed=OTHER_SID), DenyCode.HOST_SIGNATURE),
    "host signature with SHA-1": (
        Case(policy=host_keys(own("ssh-rsa")), host=own("ssh-rsa"), host_algorithm="ssh-rsa"),
        DenyCode.HOST_SIGNATURE,
    ),
    "request bound to another registered host": (
        Case(policy=two_hosts(), hostbound=signer("second").blob),
        DenyCode.HOSTBOUND,
    ),
    "request bound to a stranger": (Case(hostbound=signer("stranger").blob), DenyCode.HOSTBOUND),
    "bad bind beside good evidence": (
        Case(host=signer("stranger"), evidence=(proof_by_kex(signer("host")),)),
        DenyCode.HOST_KEY,
    ),
    "bad bind where no proof is required": (Case(policy=UNPROVEN, signed=OTHER_SID), DenyCode.HOST_SIGNATURE),
    # evidence of the key exchange
    "no proof at all": (Case(bound=False), DenyCode.NO_PROOF),
    "no proof, but the request names a registered host": (
        Case(bound=False, hostbound=signer("host").blob),
        DenyCode.NO_PROOF,
    ),
    "bind that failed at the relay, with good evidence": (
        Case(bound=False, context='{"bind_attempted": true}', evidence=(proof_by_kex(signer("host")),)),
        DenyCode.NO_PROOF,
    ),
    "bind that failed at the relay, where no proof is required": (
        Case(policy=UNPROVEN, bound=False, context='{"bind_attempted": true}'),
        DenyCode.NO_PROOF,
    ),
    "evidence of a stranger": (Case(bound=False, evidence=(proof_by_kex(signer("stranger")),)), DenyCode.HOST_KEY),
    "evidence of another session": (
        Case(bound=False, evidence=(proof_by_kex(signer("host"), OTHER_SID),)),
        DenyCode.HOST_SIGNATURE,
    ),
    "evidence signed by a stranger": (
        Case(bound=False, evidence=(proof_by_kex(signer("stranger"), blob=signer("host").blob),)),
        DenyCode.HOST_SIGNATURE,
    ),
    "evidence of a stranger where no proof is required": (
        Case(policy=UNPROVEN, bound=False, evidence=(proof_by_kex(signer("stranger")),)),
        DenyCode.HOST_KEY,
    ),
    "evidence of one host, request bound to another": (
        Case(
            policy=two_hosts(),
            bound=False,
            evidence=(proof_by_kex(signer("host")),),
            hostbound=signer("second").blob,
        ),
        DenyCode.HOSTBOUND,
    ),
    "no proof required, request bound to a stranger": (
        Case(policy=UNPROVEN, bound=False, hostbound=signer("stranger").blob),
        DenyCode.HOST_KEY,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_and_remembers_nothing(name: str) -> None:
    case, code = REFUSED[name]
    memory = SessionMemory()
    answer = decided(case, memory)
    assert isinstance(answer, Denied), "signed"
    assert answer.code is code, answer
    assert answer.reason.isprintable() and 0 < len(answer.reason) < 500
    assert len(memory) == 0


@pytest.mark.parametrize("name", REFUSED)
def test_every_refusal_is_of_one_change(name: str) -> None:
    """Each row is taken from the valid case; were that one refused too, the rows would prove nothing."""
    case, _ = REFUSED[name]
    assert case != Case()
    assert isinstance(decided(Case()), Allowed)


ALLOWED: dict[str, tuple[Case, str]] = {
    "session-bind": (Case(), PROOF_BIND),
    "session-bind and hostbound": (Case(hostbound=signer("host").blob), PROOF_BIND),
    "session id of 20 bytes": (Case(sid=SID[:20]), PROOF_BIND),
    "session id of 64 bytes": (Case(sid=SID * 2), PROOF_BIND),
    "bind counts, bad evidence beside it does not": (Case(evidence=(proof_by_kex(signer("stranger")),)), PROOF_BIND),
    "second host": (Case(policy=two_hosts(), host=signer("second")), PROOF_BIND),
    "maintenance that is open": (Case(purpose=MAINTAIN, opened={ENTRY: NOW + 1}), PROOF_BIND),
    "at the begin of its time": (Case(policy=entry("not_before", "2027-01-15T08:00:00Z")), PROOF_BIND),
    "before the end of its time": (Case(policy=entry("not_after", "2027-01-15T08:00:01Z")), PROOF_BIND),
    "within the hours": (Case(policy=entry("hours", [FRIDAY])), PROOF_BIND),
    "evidence": (Case(bound=False, evidence=(proof_by_kex(signer("host")),)), PROOF_EVIDENCE),
    "evidence, second piece": (
        Case(bound=False, evidence=(proof_by_kex(signer("stranger")), proof_by_kex(signer("host")))),
        PROOF_EVIDENCE,
    ),
    "evidence and hostbound": (
        Case(bound=False, evidence=(proof_by_kex(signer("host")),), hostbound=signer("host").blob),
        PROOF_EVIDENCE,
    ),
    "evidence where none is required": (
        Case(policy=UNPROVEN, bound=False, evidence=(proof_by_kex(signer("host")),)),
        PROOF_EVIDENCE,
    ),
    "no proof required": (Case(policy=UNPROVEN, bound=False), PROOF_NONE),
    "no proof required, bound to a registered host": (
        Case(policy=UNPROVEN, bound=False, hostbound=signer("host").blob),
        PROOF_NONE,
    ),
    "context that is no JSON": (Case(context="[" * 5000), PROOF_BIND),
    "RSA with SHA-512": (Case(key=own("ssh-rsa"), algorithm="rsa-sha2-512", flags=4), PROOF_BIND),
    "RSA with SHA-256": (Case(key=own("ssh-rsa"), algorithm="rsa-sha2-256", flags=2), PROOF_BIND),
    **{
        f"user key {name}": (Case(key=own(name), algorithm=name), PROOF_BIND)
        for name in ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
    },
    **{
        f"host key {name}": (Case(policy=host_keys(own(name)), host=own(name)), PROOF_BIND)
        for name in ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
    },
}


@pytest.mark.parametrize("name", ALLOWED)
def test_allows(name: str) -> None:
    case, proof = ALLOWED[name]
    answer = decided(case)
    assert isinstance(answer, Allowed), answer
    assert (answer.proof, answer.factory, answer.data) == (proof, "osg", case.request().data)
    assert (answer.host_fingerprint is None) == (proof == PROOF_NONE)


# Each step mends what the step before was refused for; the last one is signed. Source: key-broker decision order.
ORDER: tuple[tuple[dict[str, Any], Optional[DenyCode]], ...] = (
    ({}, DenyCode.UNKNOWN_HANDLE),
    ({"handle": None}, DenyCode.DISABLED),
    ({"policy": {"enabled": True}}, DenyCode.FACTORY),
    ({"pin": PIN}, DenyCode.NOT_NOW),
    ({"policy": {"not_after": None}}, DenyCode.PURPOSE_CLOSED),
    ({"opened": {ENTRY: NOW + 60}}, DenyCode.RATE),
    ({"rates": None}, DenyCode.MALFORMED),
    ({"data": None}, DenyCode.USER),
    ({"user": USER}, DenyCode.KEY),
    ({"key_blob": None}, DenyCode.ALGORITHM),
    ({"flags": 0}, DenyCode.FORWARDED),
    ({"forwarding": False}, DenyCode.SESSION_ID),
    ({"bind_sid": None}, DenyCode.HOST_KEY),
    ({"host_key": None}, DenyCode.HOST_SIGNATURE),
    ({"signed": None}, DenyCode.HOSTBOUND),
    ({"hostbound": None}, DenyCode.REPLAY),
    ({"memory": None}, None),
)


def test_asks_in_the_order_of_the_specification() -> None:
    block: dict[str, Any] = {"enabled": False, "not_after": "2020-01-01T00:00:00Z"}
    case = Case(
        purpose=MAINTAIN, handle="a" * 26, pin=OTHER_PIN, data=b"x", user="root", key_blob=signer("stranger").blob,
        flags=4, forwarding=True, bind_sid=OTHER_SID, host_key=signer("stranger").blob, signed=OTHER_SID,
        hostbound=signer("stranger").blob,
    )  # fmt: skip
    used_up: Optional[RateLimits] = RateLimits()
    known: Optional[SessionMemory] = SessionMemory()
    assert used_up is not None and known is not None
    handle = handle_id(SPKI, case.key.blob, MAINTAIN)
    for _ in range(5):
        used_up.take(handle, "osg", keyed(policy_data()).handles[handle].entry.rate_of(MAINTAIN), NOW)
    known.admit(handle, SID, b"another request", NOW)
    for mended, code in ORDER:
        block.update(mended.get("policy", {}))
        used_up = None if "rates" in mended else used_up
        known = None if "memory" in mended else known
        mended = {name: value for name, value in mended.items() if name not in ("policy", "rates", "memory")}
        data = policy_data()
        data["handles"][ENTRY].update(block)
        case = replace(case, policy=data, **mended)
        answer = decided(case, known, used_up)
        assert (answer.code if isinstance(answer, Denied) else None) is code, (mended, answer)


def test_refuses_above_the_rate_and_says_when_to_come_back() -> None:
    case, rates = Case(policy=entry("rate", {"burst": 2, "per_hour": 60})), RateLimits()
    answers = [decided(case, rates=rates) for _ in range(3)]
    assert [isinstance(answer, Allowed) for answer in answers] == [True, True, False]
    assert answers[2] == Denied(DenyCode.RATE, f"too many signatures for {ENTRY}", 60)
    assert isinstance(decided(replace(case, now=NOW + 60), rates=rates), Allowed)


def test_a_flood_of_refused_requests_uses_up_the_rate_of_that_factory_only() -> None:
    data, rates = policy_data(), RateLimits()
    data["handles"][ENTRY]["factories"] = ["osg", "cern"]
    flood = Case(policy=data, user="root")
    codes = [answer.code for answer in (decided(flood, rates=rates) for _ in range(12)) if isinstance(answer, Denied)]
    assert codes == [DenyCode.USER] * 10 + [DenyCode.RATE] * 2
    assert isinstance(decided(Case(policy=data, pin=OTHER_PIN), rates=rates), Allowed)


def test_maintenance_has_a_rate_of_its_own() -> None:
    rates = RateLimits()
    pilots = [decided(Case(), rates=rates) for _ in range(11)]
    assert isinstance(pilots[-1], Denied) and pilots[-1].code is DenyCode.RATE
    case = Case(purpose=MAINTAIN, opened={ENTRY: NOW + 60})
    answers = [decided(case, rates=rates) for _ in range(6)]
    assert [isinstance(answer, Allowed) for answer in answers] == [True] * 5 + [False]


def test_signs_the_same_request_again_and_no_other_one_for_its_session() -> None:
    """A relay that reconnects resends; a stolen session id must not carry a second request."""
    memory = SessionMemory()
    assert isinstance(decided(Case(), memory), Allowed)
    assert isinstance(decided(Case(), memory), Allowed)
    answer = decided(Case(hostbound=signer("host").blob), memory)
    assert isinstance(answer, Denied) and answer.code is DenyCode.REPLAY
    assert isinstance(decided(Case(), memory), Allowed)
    assert isinstance(decided(Case(sid=OTHER_SID), memory), Allowed)


def test_says_what_is_signed_and_for_whom() -> None:
    answer = decided(Case(key=own("ssh-rsa"), algorithm="rsa-sha2-256", flags=2))
    assert isinstance(answer, Allowed)
    assert (answer.handle.entry.name, answer.handle.purpose, answer.handle.public_key) == (
        ENTRY, SUBMIT, own("ssh-rsa").public,
    )  # fmt: skip
    assert (answer.algorithm, answer.flags, answer.host) == ("rsa-sha2-256", 2, HOST)
    assert answer.host_fingerprint == signer("host").public.fingerprint
    assert answer.session_id_sha256 == "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"


def by_ca() -> dict[str, Any]:
    return entry("hosts", [{"name": HOST, "cas": [signer("host-ca").public.authorized]}])


HOST_CERTIFICATES: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "good": ("host-ca", ("-h", "-n", HOST), True),
    "several names": ("host-ca", ("-h", "-n", f"other,{HOST}"), True),
    "for another name": ("host-ca", ("-h", "-n", "other.example.edu"), False),
    "for no name": ("host-ca", ("-h",), False),
    "expired": ("host-ca", ("-h", "-n", HOST, "-V", "20200101:20210101"), False),
    "not valid yet": ("host-ca", ("-h", "-n", HOST, "-V", "20400101:20410101"), False),
    "of another CA": ("stranger-ca", ("-h", "-n", HOST), False),
    "a user's": ("host-ca", ("-n", HOST), False),
}


@pytest.mark.parametrize("name", HOST_CERTIFICATES)
@pytest.mark.parametrize("way", ["bind", "evidence"])
def test_host_certificates(name: str, way: str, tmp_path: Path) -> None:
    ca, options, good = HOST_CERTIFICATES[name]
    host = signer("host")
    blob = certify(tmp_path, signer(ca), host, *options).blob
    case = Case(policy=by_ca(), host_key=blob)
    if way == "evidence":
        case = Case(policy=by_ca(), bound=False, evidence=(proof_by_kex(host, blob=blob),))
    answer = decided(case)
    if good:
        assert isinstance(answer, Allowed) and answer.host_fingerprint == host.public.fingerprint
    else:
        assert isinstance(answer, Denied) and answer.code is DenyCode.HOST_KEY


@pytest.mark.parametrize("name", ["of another CA", "for another name", "expired"])
def test_takes_a_certificate_of_a_registered_host_key_for_the_key(name: str, tmp_path: Path) -> None:
    """A server with a certificate shows it to all; its administrator has told us the key only, as ssh-keyscan does."""
    ca, options, _ = HOST_CERTIFICATES[name]
    blob = certify(tmp_path, signer(ca), signer("host"), *options).blob
    answer = decided(Case(host_key=blob))
    assert isinstance(answer, Allowed) and answer.host_fingerprint == signer("host").public.fingerprint
    answer = decided(Case(host_key=blob, host=signer("stranger")))
    assert isinstance(answer, Denied) and answer.code is DenyCode.HOST_SIGNATURE


def altered(change: Callable[[bytearray], None]) -> Callable[[bytes], bytes]:
    def apply(blob: bytes) -> bytes:
        content = bytearray(blob)
        change(content)
        return bytes(content)

    return apply


def _flip(at: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[at] ^= 1

    return change


@pytest.mark.parametrize("at", [len(text("ssh-ed25519-cert-v01@openssh.com")) + 8, -1], ids=["nonce", "signature"])
def test_refuses_an_altered_host_certificate(at: int, tmp_path: Path) -> None:
    blob = certify(tmp_path, signer("host-ca"), signer("host"), "-h", "-n", HOST).blob
    answer = decided(Case(policy=by_ca(), host_key=altered(_flip(at))(blob)))
    assert isinstance(answer, Denied) and answer.code is DenyCode.HOST_KEY


def test_refuses_a_good_host_certificate_with_a_strangers_signature(tmp_path: Path) -> None:
    blob = certify(tmp_path, signer("host-ca"), signer("host"), "-h", "-n", HOST).blob
    answer = decided(Case(policy=by_ca(), host_key=blob, host=signer("stranger")))
    assert isinstance(answer, Denied) and answer.code is DenyCode.HOST_SIGNATURE


def test_a_host_ca_is_no_host_key_itself() -> None:
    answer = decided(Case(policy=by_ca(), host=signer("host-ca")))
    assert isinstance(answer, Denied) and answer.code is DenyCode.HOST_KEY


def user_certificate(folder: Path, key: str = "user") -> Certificate:
    return certify(folder, signer("user-ca"), signer(key), "-n", "gwms-pilot", "-V", "20200101:20400101")


def test_signs_for_a_certificate_of_ours(tmp_path: Path) -> None:
    certificate = user_certificate(tmp_path)
    case = Case(key_blob=certificate.blob, algorithm="ssh-ed25519-cert-v01@openssh.com", certificates=(certificate,))
    answer = decided(case)
    assert isinstance(answer, Allowed) and answer.certificate is certificate


@pytest.mark.parametrize("name", ["not ours", "expired", "not valid yet", "of another handle's key"])
def test_refuses_another_certificate(name: str, tmp_path: Path) -> None:
    certificate = user_certificate(tmp_path, "stranger" if name == "of another handle's key" else "user")
    known = () if name == "not ours" else (certificate,)
    now = {"expired": NOW + 20 * YEAR_S, "not valid yet": NOW - 20 * YEAR_S}.get(name, NOW)
    case = Case(key_blob=certificate.blob, algorithm="ssh-ed25519-cert-v01@openssh.com", certificates=known, now=now)
    answer = decided(case)
    assert isinstance(answer, Denied) and answer.code is DenyCode.KEY


def test_refuses_a_certificate_under_the_plain_keys_name(tmp_path: Path) -> None:
    certificate = user_certificate(tmp_path)
    answer = decided(Case(key_blob=certificate.blob, certificates=(certificate,)))
    assert isinstance(answer, Denied) and answer.code is DenyCode.ALGORITHM


def test_every_code_of_the_broker_stands_in_a_row() -> None:
    made_elsewhere = {DenyCode.UNAVAILABLE, DenyCode.INTERNAL, DenyCode.NOT_YOURS}
    in_rows = {code for _, code in REFUSED.values()} | {code for _, code in ORDER if code is not None}
    assert in_rows == set(DenyCode) - made_elsewhere
