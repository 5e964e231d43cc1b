# SPDX-License-Identifier: Apache-2.0
"""Agent messages: what we write a real ssh-agent understands, and every malformed request is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from glideinwms_bosco.errors import WireError
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.primitives import boolean, byte, string, text, uint32
from tests.unit.ssh_builder import Ed25519Signer
from tests.unit.ssh_material import RealAgent, public_blob, ssh_agent, ssh_keys
from tests.unit.ssh_version import needs_session_bind

__all__ = ["ssh_agent", "ssh_keys"]

HANDLE = "abcdefghijklmnopqrstuvwx23"
SID = b"i" * 32


def bind_body(host_key: bytes = b"K", sid: bytes = SID, sig: bytes = b"S", forwarding: bytes = b"\0") -> bytes:
    return string(host_key) + string(sid) + string(sig) + forwarding


def extension(name: str, contents: bytes) -> bytes:
    return byte(27) + text(name) + contents


def test_lists_the_keys_of_a_real_agent(ssh_keys: Mapping[str, Path], ssh_agent: RealAgent) -> None:
    listed = agent.parse_identities(ssh_agent.request(agent.list_request()))
    assert listed == [(public_blob(key_file), f"{kind} key") for kind, key_file in ssh_keys.items()]


@needs_session_bind
def test_real_agent_takes_a_bind_that_verifies_and_refuses_one_that_does_not(ssh_agent: RealAgent) -> None:
    host = Ed25519Signer(3)
    good = agent.bind_request(host.blob, SID, host.sign(SID))
    assert ssh_agent.request(good) == agent.success()
    assert ssh_agent.request(agent.bind_request(host.blob, SID, host.sign(b"other"))) == agent.failure()


def test_real_agents_refusal_is_an_error(ssh_agent: RealAgent) -> None:
    answer = ssh_agent.request(agent.sign_request(Ed25519Signer(77).blob, b"data"))
    with pytest.raises(WireError, match="refused to sign"):
        agent.parse_signature(answer)


REQUESTS: list[tuple[bytes, agent.Request]] = [
    (agent.list_request(), agent.ListIdentities()),
    (agent.sign_request(b"key", b"data", 4), agent.SignRequest(b"key", b"data", 4)),
    (agent.sign_request(b"key", b""), agent.SignRequest(b"key", b"", 0)),
    (agent.bind_request(b"K", SID, b"S"), agent.SessionBind(b"K", SID, b"S", False)),
    (agent.bind_request(b"K", SID, b"S", True), agent.SessionBind(b"K", SID, b"S", True)),
    (agent.evidence_request(b"K", b"S", 4711), agent.KexEvidence(b"K", b"S", 4711)),
    (agent.status_request(HANDLE), agent.StatusQuery(HANDLE)),
    (byte(19), agent.Unsupported(19, "")),
    (byte(17) + b"an identity to add", agent.Unsupported(17, "")),
    (byte(0), agent.Unsupported(0, "")),
    (extension("query", b""), agent.Unsupported(27, "query")),
    (extension("restrict-destination-v00@openssh.com", b"\xff" * 9),
     agent.Unsupported(27, "restrict-destination-v00@openssh.com")),
]  # fmt: skip


@pytest.mark.parametrize(("body", "request_"), REQUESTS, ids=lambda value: type(value).__name__)
def test_reads_request(body: bytes, request_: agent.Request) -> None:
    assert agent.parse_request(body) == request_


def test_wire_form_of_each_request() -> None:
    assert agent.list_request().hex() == "0b"
    assert agent.sign_request(b"k", b"d", 2).hex() == "0d000000016b000000016400000002"
    assert agent.status_request("ab") == b"\x1b\0\0\0\x15status@glideinwms.org\0\0\0\2ab"
    assert agent.bind_request(b"K", b"i" * 20, b"S") == (
        b"\x1b\0\0\0\x18session-bind@openssh.com\0\0\0\1K\0\0\0\x14" + b"i" * 20 + b"\0\0\0\1S\0"
    )
    assert agent.evidence_request(b"K", b"S", 1) == (
        b"\x1b\0\0\0\x1bkex-evidence@glideinwms.org\0\0\0\1K\0\0\0\1S\0\0\0\1"
    )


def test_bind_body_round_trip() -> None:
    bind = agent.SessionBind(b"K", SID, b"S", True)
    assert agent.parse_bind(bind.body) == bind


@pytest.mark.parametrize("size", [20, 32, 48, 64])
def test_takes_session_ids_of_the_hashes_in_use(size: int) -> None:
    assert len(agent.parse_bind(bind_body(sid=bytes(size))).session_id) == size


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bind_body()[:-1],
        bind_body() + b"\0",
        bind_body(forwarding=b"\2"),
        bind_body(forwarding=b"\xff"),
        bind_body(host_key=b""),
        bind_body(sig=b""),
        *[bind_body(sid=bytes(size)) for size in (0, 19, 21, 31, 33, 47, 49, 63, 65)],
        bind_body(host_key=bytes(agent.MAX_KEY_BLOB_BYTES + 1)),
        bind_body(sig=bytes(agent.MAX_SIGNATURE_BYTES + 1)),
    ],
)
def test_refuses_malformed_bind_but_knows_it_was_one(body: bytes) -> None:
    with pytest.raises(WireError):
        agent.parse_bind(body)
    message = extension(agent.SESSION_BIND, body)
    with pytest.raises(WireError):
        agent.parse_request(message)
    assert agent.is_bind_attempt(message)


def test_other_messages_are_no_bind_attempts() -> None:
    binds = [body for body, parsed in REQUESTS if agent.is_bind_attempt(body)]
    assert binds == [body for body, parsed in REQUESTS if isinstance(parsed, agent.SessionBind)]


def test_largest_bind_is_taken() -> None:
    body = bind_body(host_key=bytes(agent.MAX_KEY_BLOB_BYTES), sig=bytes(agent.MAX_SIGNATURE_BYTES))
    assert agent.parse_bind(body).body == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        agent.list_request() + b"\0",
        agent.sign_request(b"key", b"data") + b"\0",
        agent.sign_request(b"key", b"data")[:-1],
        agent.sign_request(b"", b"data"),
        agent.sign_request(bytes(agent.MAX_KEY_BLOB_BYTES + 1), b"data"),
        byte(27),
        extension("", b""),
        byte(27) + string(b"\xff\xfe"),
        extension("x" * (agent.MAX_EXTENSION_NAME_CHARS + 1), b""),
        agent.evidence_request(b"K", b"S", 1) + b"\0",
        agent.evidence_request(b"K", b"S", 1)[:-1],
        agent.evidence_request(b"", b"S", 1),
        agent.evidence_request(b"K", b"", 1),
        agent.evidence_request(bytes(agent.MAX_KEY_BLOB_BYTES + 1), b"S", 1),
        agent.evidence_request(b"K", bytes(agent.MAX_SIGNATURE_BYTES + 1), 1),
        agent.status_request(""),
        agent.status_request("a" * (agent.MAX_HANDLE_BYTES + 1)),
        agent.status_request("../../etc/passwd"),
        agent.status_request("h\0"),
        agent.status_request("\u0663"),
        agent.status_request(HANDLE) + b"\0",
    ],
)
def test_refuses_malformed_request(body: bytes) -> None:
    with pytest.raises(WireError):
        agent.parse_request(body)


def test_message_size_is_bounded() -> None:
    assert agent.parse_request(byte(17) + bytes(agent.MAX_MESSAGE_BYTES - 1)) == agent.Unsupported(17, "")
    with pytest.raises(WireError, match="at most"):
        agent.parse_request(byte(17) + bytes(agent.MAX_MESSAGE_BYTES))


def test_refuses_to_write_an_impossible_pid() -> None:
    for pid in (-1, 2**32):
        with pytest.raises(WireError):
            agent.evidence_request(b"K", b"S", pid)


def test_answers_round_trip() -> None:
    keys = [(b"one", "first"), (b"two", "")]
    assert agent.parse_identities(agent.identities(keys)) == keys
    assert agent.parse_identities(agent.identities([])) == []
    assert agent.parse_signature(agent.signature(b"sig")) == b"sig"
    assert agent.parse_status(agent.status_answer('{"broker":"up"}')) == '{"broker":"up"}'
    assert (agent.failure(), agent.success()) == (b"\5", b"\6")


@pytest.mark.parametrize("parse", [agent.parse_identities, agent.parse_signature, agent.parse_status])
@pytest.mark.parametrize("body", [b"", b"\5", b"\x1c", b"\x0c", b"\x0e", b"\6\0", b"\x63", b"\6\0\0\0\1\xff"])
def test_refuses_malformed_answer(parse: Callable[[bytes], object], body: bytes) -> None:
    with pytest.raises(WireError):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        byte(12) + uint32(2) + string(b"k") + text("c"),
        byte(12) + uint32(0) + b"\0",
        byte(12) + uint32(agent.MAX_IDENTITIES + 1),
        byte(12) + uint32(2**32 - 1),
        byte(12) + uint32(1) + string(b"k") + string(b"\xff"),
    ],
)
def test_refuses_malformed_identities(body: bytes) -> None:
    with pytest.raises(WireError):
        agent.parse_identities(body)


def test_refuses_signature_answers_out_of_bounds() -> None:
    too_long = bytes(agent.MAX_SIGNATURE_BYTES + 1)
    for body in (agent.signature(b""), agent.signature(too_long), agent.signature(b"s") + b"\0"):
        with pytest.raises(WireError):
            agent.parse_signature(body)


def test_forwarding_flag_is_one_byte() -> None:
    assert bind_body(forwarding=boolean(True)) == agent.SessionBind(b"K", SID, b"S", True).body
