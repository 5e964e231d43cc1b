# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: for each parser its seeds, and what must hold when it accepts a case.

A strict parser knows one form only, so whatever it accepts must be written back to the very same bytes. A stream must
mean the same in one piece and in many. A signature or certificate is accepted only as it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.link import frames, messages
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.certificate import check_host_certificate, parse_certificate
from glideinwms_bosco.sshwire.handle import MAINTAIN, SUBMIT, HandleReference, handle_id, read_handle_text
from glideinwms_bosco.sshwire.kex import MAX_EVIDENCE, KexReader
from glideinwms_bosco.sshwire.keys import parse_authorized, parse_public_key, signature_algorithms, verify
from glideinwms_bosco.sshwire.primitives import byte, mpint, string, text, uint32
from glideinwms_bosco.sshwire.userauth import build_userauth, parse_userauth
from tests.unit.ssh_builder import (
    CertificateFields,
    Ed25519Signer,
    armour,
    ecdsa_blob,
    ecdsa_fields,
    kex_reply,
    kexinit,
    options,
    packed,
    packet,
    private_container,
    rsa_blob,
    rsa_fields,
)


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        name: for the figures and for --replay.
        share: part of the cases it gets, relative to the others; a parser that verifies signatures is slow.
        seeds: well-formed inputs.
        run: parses one case; raises AssertionError when a promise is broken.
    """

    name: str
    share: int
    seeds: tuple[bytes, ...]
    run: Callable[[bytes], None]


HOST, USER, CA = Ed25519Signer(1), Ed25519Signer(2), Ed25519Signer(9)
SESSION_IDS = (b"i" * 32, b"j" * 64)
HANDLE = handle_id(b"spki", USER.blob, SUBMIT)
REFERENCE = HandleReference(HANDLE, "sha256:" + "0123456789abcdef" * 4)
MESSAGE = SESSION_IDS[0]
CERTS = (
    CertificateFields().blob(),
    CertificateFields(type=1, extensions=options(("permit-pty", b""), ("x@y", text("z")))).blob(),
    CertificateFields(algorithm="ssh-rsa-cert-v01@openssh.com", key_fields=rsa_fields()).blob(),
    CertificateFields(algorithm="ecdsa-sha2-nistp256-cert-v01@openssh.com", key_fields=ecdsa_fields("nistp256")).blob(),
    CertificateFields(principals=packed(*(f"h{i}" for i in range(20)))).blob(),
    CertificateFields(type=1, critical_options=options(("force-command", text("~/bin/gate")))).blob(),
)
KEYS = (HOST.blob, USER.blob, ecdsa_blob("nistp256"), ecdsa_blob("nistp521"), rsa_blob(2048), rsa_blob(4096))
ECDSA_SIGNATURE = text("ecdsa-sha2-nistp256") + string(mpint(2**255 - 19) + mpint(2**254 - 3))
SIGNATURES = (HOST.sign(MESSAGE), ECDSA_SIGNATURE, text("rsa-sha2-512") + string(b"\1" * 256))
SIGNERS = tuple(parse_public_key(blob) for blob in (HOST.blob, ecdsa_blob("nistp256"), rsa_blob(2048)))

AGENT_REQUESTS = (
    agent.list_request(),
    agent.sign_request(USER.blob, build_userauth(SESSION_IDS[0], "pilot", "ssh-ed25519", USER.blob, HOST.blob), 4),
    agent.bind_request(HOST.blob, SESSION_IDS[0], HOST.sign(SESSION_IDS[0])),
    agent.bind_request(CERTS[0], SESSION_IDS[1], HOST.sign(SESSION_IDS[1]), True),
    agent.evidence_request(HOST.blob, HOST.sign(MESSAGE), 4711),
    agent.status_request(HANDLE),
    byte(17) + text("ssh-ed25519") + bytes(64),
)


def _agent_request(case: bytes) -> None:
    request = agent.parse_request(case)
    if isinstance(request, agent.SessionBind):
        assert agent.is_bind_attempt(case)
        assert case.endswith(request.body)
        assert agent.parse_bind(request.body) == request
    elif isinstance(request, agent.SignRequest):
        assert agent.sign_request(request.key_blob, request.data, request.flags) == case
    elif isinstance(request, agent.KexEvidence):
        assert agent.evidence_request(request.host_key, request.signature, request.ssh_pid) == case
    elif isinstance(request, agent.StatusQuery):
        assert agent.status_request(request.handle) == case
    elif isinstance(request, agent.ListIdentities):
        assert agent.list_request() == case
    else:
        assert not agent.is_bind_attempt(case)


AGENT_ANSWERS = (
    agent.identities([(blob, "a comment") for blob in KEYS]),
    agent.identities([]),
    agent.signature(SIGNATURES[0]),
    agent.status_answer('{"broker": "up"}'),
    agent.failure(),
)


def _agent_answer(case: bytes) -> None:
    parsers: tuple[Callable[[bytes], bytes], ...] = (
        lambda body: agent.identities(agent.parse_identities(body)),
        lambda body: agent.signature(agent.parse_signature(body)),
        lambda body: agent.status_answer(agent.parse_status(body)),
    )
    refused = 0
    for rebuild in parsers:
        try:
            assert rebuild(case) == case
        except WireError:
            refused += 1
    if refused == len(parsers):
        raise WireError("refused by all")


LOGINS = (
    build_userauth(SESSION_IDS[0], "pilot", "ssh-ed25519", USER.blob),
    build_userauth(SESSION_IDS[1], "pilot", "ssh-ed25519", USER.blob, HOST.blob),
    build_userauth(SESSION_IDS[1], "p\u00e9ter", "rsa-sha2-512", rsa_blob(), CERTS[0]),
    build_userauth(SESSION_IDS[0], "pilot", "ssh-ed25519-cert-v01@openssh.com", CERTS[1], HOST.blob),
)


def _userauth(case: bytes) -> None:
    login = parse_userauth(case)
    assert build_userauth(login.session_id, login.user, login.algorithm, login.key_blob, login.host_key) == case
    assert login.signature_algorithm != "ssh-rsa"
    assert login.agent_flags in (0, 2, 4)


def _key(case: bytes) -> None:
    key = parse_public_key(case)
    assert key.blob == case
    assert signature_algorithms(key)
    assert parse_authorized(key.authorized) == key


def _authorized(case: bytes) -> None:
    key = parse_authorized(case.decode("latin-1"))
    assert key.authorized == " ".join(case.decode("latin-1").split()[:2])


def _signature(case: bytes) -> None:
    for signer in SIGNERS:
        try:
            verify(signer, case, MESSAGE)
        except WireError:
            continue
        assert case == SIGNATURES[0], "a signature that nobody made verifies"
        return
    raise WireError("verifies with no key")


def _certificate(case: bytes) -> None:
    cert = parse_certificate(case)
    assert case in CERTS, "a certificate that nobody signed is accepted"
    check_host_certificate(cert, (CA.blob,), ("host",), 1500)


BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n"
REPLY = packet(kex_reply(HOST.blob, HOST.sign(MESSAGE)))
NEWKEYS = packet(byte(21))
STREAMS = (
    BANNER + packet(kexinit()) + REPLY + NEWKEYS,
    b"Welcome\r\nto the cluster\n" + BANNER + packet(kexinit(1)) + REPLY + REPLY + NEWKEYS + b"encrypted" * 9,
    BANNER + packet(byte(2) + string(b"noise")) + packet(kexinit())
    + packet(byte(31) + string(b"P" * 128) + string(b"\2"))
    + packet(kex_reply(CERTS[0], HOST.sign(MESSAGE), 33)) + NEWKEYS,
)  # fmt: skip


def _pieces(case: bytes) -> Iterable[bytes]:
    """Cut a case into pieces of 1 to 255 bytes whose sizes it determines itself."""
    at = 0
    while at < len(case):
        size = case[at] or 1
        yield case[at : at + size]
        at += size


def _kex(case: bytes) -> None:
    whole, cut = KexReader(), KexReader()
    found = whole.feed(case)
    assert [one for piece in _pieces(case) for one in cut.feed(piece)] == found
    assert cut.done == whole.done
    assert len(found) <= MAX_EVIDENCE
    if whole.done and not found:
        raise WireError("nothing found")


def _handle_text(case: bytes) -> None:
    reference = read_handle_text(case)
    if reference is None:
        raise WireError("not a handle")
    assert HandleReference(reference.handle, reference.broker_pin).comment == reference.comment


def _handle_container(case: bytes) -> None:
    _handle_text(armour(case))


OFFER_ITEM = messages.OfferItem(
    HANDLE, USER.blob, USER.blob, b"", "pilot", MAINTAIN, "pilot", "login.example.org:22",
    "login.example.org ssh-ed25519 AAAA\n", not_before=1, not_after=2, flags=1,
)  # fmt: skip
LINK_MESSAGES: tuple[messages.Message, ...] = (
    messages.Hello("frontend", "gwms 0.1", 1_700_000_000_000, ("cert", "two")),
    messages.Offer(7, (OFFER_ITEM, OFFER_ITEM)),
    messages.OfferAck((messages.OfferResult(HANDLE, 0), messages.OfferResult("x", 16, "not here"))),
    messages.Sign(HANDLE, '{"entry":"e"}', (agent.SessionBind(HOST.blob, MESSAGE, SIGNATURES[0], False).body,),
                  ((HOST.blob, SIGNATURES[0]),), LOGINS[1], 4),
    messages.SignOk(SIGNATURES[0]),
    messages.Deny(15, "too many", 60),
    messages.Ping(1),
    messages.Pong(2**64 - 1),
    messages.GoAway(1, "bye"),
)  # fmt: skip
LINK_BODIES = tuple(byte(message.TYPE) + uint32(7) + message.body() for message in LINK_MESSAGES)
LINK_FRAMES = tuple(frames.encode(message.TYPE, 7, message.body()) for message in LINK_MESSAGES)
LINK_STREAMS = (LINK_FRAMES[0] + LINK_FRAMES[1] + LINK_FRAMES[6], LINK_FRAMES[0] + LINK_FRAMES[3], *LINK_FRAMES[4:7])


def _link_message(case: bytes) -> None:
    if len(case) < 5:
        raise WireError("no frame is that short")
    rid = int.from_bytes(case[1:5], "big")
    message = messages.parse(case[0], rid, case[5:])
    assert messages.parse(message.TYPE, rid, message.body()) == message


def _frames(pieces: Iterable[bytes]) -> Optional[list[frames.Frame]]:
    """The frames of a stream; None when it is refused."""
    decoder = frames.Decoder()
    try:
        return [frame for piece in pieces for frame in decoder.feed(piece)]
    except WireError:
        return None


def _link_stream(case: bytes) -> None:
    whole = _frames([case])
    assert _frames(_pieces(case)) == whole
    if not whole:
        raise WireError("no frame")


TARGETS = (
    Target("agent-request", 6, AGENT_REQUESTS, _agent_request),
    Target("agent-answer", 3, AGENT_ANSWERS, _agent_answer),
    Target("userauth", 6, LOGINS, _userauth),
    Target("key", 2, KEYS, _key),
    Target("authorized", 2, tuple(f"{signer.authorized} a comment\n".encode() for signer in SIGNERS), _authorized),
    Target("signature", 2, SIGNATURES, _signature),
    Target("certificate", 2, CERTS, _certificate),
    Target("kex", 4, STREAMS, _kex),
    Target("handle-text", 2, (armour(private_container(REFERENCE.comment.encode())),), _handle_text),
    Target("handle-container", 3, (private_container(REFERENCE.comment.encode()),), _handle_container),
    Target("link-message", 6, LINK_BODIES, _link_message),
    Target("link-stream", 4, LINK_STREAMS, _link_stream),
)
