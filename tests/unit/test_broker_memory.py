# SPDX-License-Identifier: Apache-2.0
"""The memory of sessions that were signed for."""

from __future__ import annotations

from glideinwms_bosco.broker.memory import KEEP_S, SessionMemory

SID = b"s" * 32


def test_the_same_request_passes_again_and_another_one_does_not() -> None:
    memory = SessionMemory()
    assert [memory.admit("h", SID, data, 0.0) for data in (b"a", b"a", b"b", b"a")] == [True, True, False, True]


def test_another_handle_or_session_is_its_own() -> None:
    memory = SessionMemory()
    assert memory.admit("h", SID, b"a", 0.0)
    assert memory.admit("other", SID, b"b", 0.0)
    assert memory.admit("h", b"t" * 32, b"b", 0.0)


def test_forgets_after_ten_minutes_and_not_before() -> None:
    memory = SessionMemory()
    memory.admit("h", SID, b"a", 0.0)
    assert not memory.admit("h", SID, b"b", KEEP_S - 0.1)
    assert memory.admit("h", SID, b"b", KEEP_S)


def test_asking_again_does_not_prolong() -> None:
    memory = SessionMemory()
    memory.admit("h", SID, b"a", 0.0)
    memory.admit("h", SID, b"a", KEEP_S - 1)
    assert memory.admit("h", SID, b"b", KEEP_S)


def test_is_bounded_and_forgets_the_oldest_first() -> None:
    memory = SessionMemory(max_sessions=2)
    for number in range(3):
        memory.admit("h", bytes([number]), b"a", 0.0)
    assert len(memory) == 2
    assert not memory.admit("h", bytes([1]), b"b", 0.0)
    assert memory.admit("h", bytes([0]), b"b", 0.0)
