# SPDX-License-Identifier: Apache-2.0
"""One agent connection: binds are collected whatever they are, and nothing else leads to a signature."""

from __future__ import annotations

import pytest

from glideinwms_bosco.link.frames import MAX_BODY
from glideinwms_bosco.link.messages import Sign
from glideinwms_bosco.relay.agent_session import (
    MAX_BINDS,
    MAX_BINDS_BYTES,
    MAX_SIGN_DATA_BYTES,
    AgentSession,
    AskList,
    AskSign,
    AskStatus,
    Evidence,
)
from glideinwms_bosco.relay.evidence import KEEP_S, MAX_BYTES_PER_PID, MAX_PAIRS_PER_PID, MAX_PIDS, EvidenceStore
from glideinwms_bosco.sshwire import agent

HANDLE = "a" * 26
KEY = b"public key"
BIND_HEAD = b"\x1b" + len(agent.SESSION_BIND).to_bytes(4, "big") + agent.SESSION_BIND.encode()
GOOD_BIND = agent.bind_request(b"host key", b"s" * 32, b"signature")


@pytest.fixture
def session() -> AgentSession:
    return AgentSession(HANDLE, (KEY,))


def test_first_bind_succeeds_and_a_second_fails_but_is_kept(session: AgentSession) -> None:
    assert session.message(GOOD_BIND) == agent.success()
    assert session.message(GOOD_BIND) == agent.failure()
    assert len(session.binds) == 2


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\0\0\0\1", GOOD_BIND[len(BIND_HEAD):] + b"\0"])  # fmt: skip
def test_malformed_bind_fails_and_is_kept(session: AgentSession, body: bytes) -> None:
    assert session.message(BIND_HEAD + body) == agent.failure()
    assert session.binds == (body,)
    # A good one behind it does not make up for it.
    assert session.message(GOOD_BIND) == agent.failure()


def test_forwarded_bind_is_kept_for_the_broker_to_refuse(session: AgentSession) -> None:
    assert session.message(agent.bind_request(b"host key", b"s" * 32, b"signature", True)) == agent.success()
    assert agent.parse_bind(session.binds[0]).is_forwarding


def test_number_and_size_of_binds_are_bounded(session: AgentSession) -> None:
    for _ in range(MAX_BINDS + 1):
        session.message(BIND_HEAD + b"x" * MAX_BINDS_BYTES)
    assert len(session.binds) == MAX_BINDS
    assert sum(map(len, session.binds)) == MAX_BINDS_BYTES


def test_asks_for_what_a_message_wants(session: AgentSession) -> None:
    assert session.message(agent.list_request()) == AskList()
    assert session.message(agent.sign_request(KEY, b"data", 4)) == AskSign(b"data", 4)
    assert session.message(agent.status_request(HANDLE)) == AskStatus()
    assert session.message(agent.evidence_request(b"k", b"s", 7)) == Evidence(b"k", b"s", 7)


@pytest.mark.parametrize(
    "body",
    [b"\x0b\0", b"\x0d", b"\x1b", b"\x1b\0\0\0\5query", b"\x09", agent.status_request("b" * 26),
     agent.sign_request(b"another key", b"data"), agent.sign_request(KEY, b"x" * (MAX_SIGN_DATA_BYTES + 1))],
)  # fmt: skip
def test_anything_else_fails(session: AgentSession, body: bytes) -> None:
    assert session.message(body) == agent.failure()
    assert session.binds == ()


def test_largest_requests_fit_into_a_frame() -> None:
    data, context = b"x" * MAX_SIGN_DATA_BYTES, "c" * 1024
    binds = (b"b" * (MAX_BINDS_BYTES // MAX_BINDS),) * MAX_BINDS
    pair = (b"k" * (MAX_BYTES_PER_PID // MAX_PAIRS_PER_PID), b"")
    assert len(Sign(HANDLE, context, binds, (), data).body()) <= MAX_BODY
    assert len(Sign(HANDLE, context, (), (pair,) * MAX_PAIRS_PER_PID, data).body()) <= MAX_BODY


def test_evidence_is_kept_by_process_and_for_a_while() -> None:
    store = EvidenceStore()
    store.add(1, (b"k", b"s"), 0.0)
    assert store.get(1, KEEP_S) == ((b"k", b"s"),)
    assert store.get(2, 0.0) == ()
    assert store.get(1, KEEP_S + 0.1) == ()


def test_evidence_is_bounded() -> None:
    store = EvidenceStore()
    for i in range(MAX_PAIRS_PER_PID + 1):
        store.add(1, (bytes([i]), b"s"), 0.0)
    assert [key for key, _ in store.get(1, 0.0)] == [bytes([i]) for i in range(1, MAX_PAIRS_PER_PID + 1)]
    store.add(1, (b"k" * MAX_BYTES_PER_PID, b""), 0.0)
    assert len(store.get(1, 0.0)) == 1
    for pid in range(2, MAX_PIDS + 2):
        store.add(pid, (b"k", b"s"), 0.0)
    assert store.get(1, 0.0) == ()
    assert store.get(2, 0.0)
