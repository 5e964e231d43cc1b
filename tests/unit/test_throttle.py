# SPDX-License-Identifier: Apache-2.0
"""Connections keep to the host's limits, back off when it turns them away, and never repeat a refused login."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glideinwms_bosco.errors import AuthenticationError, RemoteError, ThrottledError
from glideinwms_bosco.remote import throttle_state
from glideinwms_bosco.remote.connection import Connection, Endpoint
from glideinwms_bosco.remote.ssh import SshSession
from glideinwms_bosco.remote.throttle import MAX_REFUSED_LOGINS, Gate, Limits, Patience, Throttle
from glideinwms_bosco.remote.throttle_state import MAX_QUIET_S, WINDOW_S, HostFolder, HostState, parse_state
from tests.unit.site_text import HOST_KEY
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd, make_key

__all__ = ["loopback_sshd"]

HOP = Endpoint("login.example.org", 22, "pilot", (HOST_KEY,))
NOW = 1_000_000.0
QUICK = Patience(first_s=0.2, login_s=20.0, slot_s=20.0)


def silent(_sentence: str) -> None:
    pass


def nothing() -> None:
    pass


def make_gate(throttle: Throttle, limits: Limits = Limits(8, 60), tell: Callable[[str], None] = silent) -> Gate:  # noqa: B008
    return throttle.gate((HOP,), limits, "lower the limits", tell)


def refuse() -> None:
    raise AuthenticationError("x does not accept the key", "", "Permission denied (publickey).")


def turn_away() -> None:
    raise ThrottledError(f"{HOP.label} closed the connection", "", "kex_exchange_identification: read: reset")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"starts": 3}', b"\xff", b"[" * 100_000])
def test_damaged_state_is_as_none(text: bytes) -> None:
    assert parse_state(text, NOW) == HostState()


def test_times_out_of_bounds_are_dropped() -> None:
    """A clock that was set back must not keep a host closed for years."""
    data = {
        "starts": [NOW - WINDOW_S - 1, NOW - 1, NOW + 1e9, "x"],
        "refusals": -3,
        "quiet_until": NOW + MAX_QUIET_S + 1,
    }
    assert parse_state(json.dumps(data).encode(), NOW) == HostState([NOW - 1], 0, 0.0)


@pytest.mark.parametrize(("limit", "wait_s"), [(2, 50.0), (3, 0.0)])
def test_rate_leaves_no_more_than_its_number_in_any_minute(limit: int, wait_s: float) -> None:
    assert HostState(starts=[NOW - 10, NOW - 5]).wait_s(limit, NOW) == wait_s


def test_rate_holds_over_several_commands(tmp_path: Path) -> None:
    for _ in range(2):
        gate = make_gate(Throttle(tmp_path, Patience(slot_s=1.0), clock=lambda: NOW), Limits(8, 2))
        gate.enter(nothing, "site x: h")
        gate.leave()
    gate = make_gate(Throttle(tmp_path, Patience(slot_s=1.0), clock=lambda: NOW), Limits(8, 2))
    with pytest.raises(ThrottledError, match=r"login\.connections_per_minute") as caught:
        gate.enter(nothing, "site x: h")
    gate.leave()
    assert "13:47:40 UTC" in caught.value.message
    # A minute later there is room again.
    gate = make_gate(Throttle(tmp_path, clock=lambda: NOW + WINDOW_S + 1), Limits(8, 2))
    gate.enter(nothing, "x")
    gate.leave()


def test_small_rate_lets_all_accounts_of_a_host_through_one_after_the_other(tmp_path: Path) -> None:
    """Waiting for our own rate takes nothing from the patience with the host, however many are before."""
    now = [NOW]
    throttle = Throttle(tmp_path, Patience(login_s=5.0), clock=lambda: now[0])

    def pass_time(seconds: float) -> bool:
        now[0] += seconds
        return False

    throttle.stop.wait = pass_time  # type: ignore[method-assign, assignment]
    times = []
    for _ in range(4):
        gate = make_gate(throttle, Limits(8, 1))
        gate.enter(lambda: times.append(now[0]), "x")
        gate.leave()
    assert times == [NOW, NOW + WINDOW_S, NOW + 2 * WINDOW_S, NOW + 3 * WINDOW_S]


@pytest.mark.parametrize("obstacle", ["disk full", "a folder in its place"])
def test_state_that_cannot_be_written_is_kept_in_memory(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if obstacle == "disk full":

        def full(*_: object) -> bool:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(throttle_state, "write_file", full)
    else:
        (tmp_path / "login.example.org_22" / "state.json").mkdir(parents=True)
    throttle = Throttle(tmp_path, Patience(slot_s=1.0), clock=lambda: NOW)
    for _ in range(2):
        gate = make_gate(throttle, Limits(8, 2))
        gate.enter(nothing, "x")
        gate.leave()
    gate = make_gate(throttle, Limits(8, 2))
    with pytest.raises(ThrottledError, match=r"login\.connections_per_minute"):
        gate.enter(nothing, "x")
    gate.leave()


def test_file_system_without_locks_limits_this_command_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(tmp_path):
            raise OSError(errno.ENOLCK, "No locks available")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    throttle = Throttle(tmp_path, Patience(slot_s=0.1))
    first, second = make_gate(throttle, Limits(1, 60)), make_gate(throttle, Limits(1, 60))
    first.enter(nothing, "x")
    with pytest.raises(ThrottledError):
        second.enter(nothing, "x")
    first.leave()
    second.leave()


def hold_slot(folder: str, ready: object, end: object) -> None:
    slot = HostFolder(Path(folder) / "login.example.org_22").take_slot(1)
    assert slot is not None
    ready.set()  # type: ignore[attr-defined]
    end.wait(30)  # type: ignore[attr-defined]


def test_slot_of_another_process_is_waited_for_and_comes_back_when_it_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=hold_slot, args=(str(tmp_path), ready, end))
    other.start()
    try:
        assert ready.wait(30)
        told: list[str] = []

        def tell(sentence: str) -> None:
            told.append(sentence)
            other.kill()

        gate = make_gate(Throttle(tmp_path, QUICK), Limits(1, 60), tell)
        gate.enter(nothing, "x")
        gate.leave()
    finally:
        other.kill()
        other.join()
    assert told == ["all 1 connections to login.example.org are in use; waiting for one"]


def test_slot_that_does_not_come_free_is_an_error_with_the_setting_s_name(tmp_path: Path) -> None:
    throttle = Throttle(tmp_path, Patience(slot_s=0.1))
    first, second = make_gate(throttle, Limits(1, 60)), make_gate(throttle, Limits(1, 60))
    first.enter(nothing, "x")
    with pytest.raises(ThrottledError, match=r"login\.max_connections"):
        second.enter(nothing, "x")
    first.leave()
    second.leave()


def test_folder_that_cannot_be_written_limits_this_command_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    throttle = Throttle(tmp_path / "file" / "connections", Patience(slot_s=0.1))
    first, second = make_gate(throttle, Limits(1, 60)), make_gate(throttle, Limits(1, 60))
    first.enter(nothing, "x")
    with pytest.raises(ThrottledError):
        second.enter(nothing, "x")
    first.leave()


def test_refused_login_is_never_repeated_and_a_few_close_the_host(tmp_path: Path) -> None:
    throttle = Throttle(tmp_path, QUICK)
    tries = []

    def log_in() -> None:
        tries.append(1)
        refuse()

    for _ in range(MAX_REFUSED_LOGINS):
        with pytest.raises(AuthenticationError):
            make_gate(throttle).enter(log_in, "x")
    for _ in range(3):
        with pytest.raises(ThrottledError, match=r"not tried: login\.example\.org has refused 3 logins") as caught:
            make_gate(throttle).enter(log_in, "x")
    assert len(tries) == MAX_REFUSED_LOGINS
    assert "--retry-failed" in caught.value.hint


def test_logins_at_once_are_no_more_than_may_be_refused(tmp_path: Path) -> None:
    """However many threads there are, wrong keys of all accounts make no more refusals than those of one thread."""
    throttle = Throttle(tmp_path, QUICK)
    tries = []
    barrier = threading.Barrier(10)

    def log_in() -> None:
        tries.append(1)
        refuse()

    def one() -> None:
        gate = make_gate(throttle, Limits(20, 600))
        barrier.wait()
        with pytest.raises(RemoteError):
            gate.enter(log_in, "x")
        gate.leave()

    threads = [threading.Thread(target=one) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == MAX_REFUSED_LOGINS


def test_host_that_turns_away_is_told_of_with_time_and_remedy_and_then_left_alone(tmp_path: Path) -> None:
    tries = []

    def log_in() -> None:
        tries.append(1)
        turn_away()

    patience = Patience(first_s=0.2, login_s=1.0)
    with pytest.raises(
        ThrottledError, match=r"times in a row; the next try may be made at \d\d:\d\d:\d\d UTC"
    ) as caught:
        make_gate(Throttle(tmp_path, patience)).enter(log_in, "x")
    assert 2 <= len(tries) <= 5
    assert caught.value.hint == "lower the limits"
    before = len(tries)
    # Another command: the time written down counts for it too.
    with pytest.raises(ThrottledError, match="keeps turning this factory's connections away") as caught:
        make_gate(Throttle(tmp_path, Patience(login_s=0.0))).enter(log_in, "x")
    assert len(tries) == before
    file = tmp_path / "login.example.org_22" / "state.json"
    assert f"rm {file}" in caught.value.hint
    file.unlink()
    gate = make_gate(Throttle(tmp_path, patience))
    gate.enter(nothing, "x")
    gate.leave()


def test_waiting_ends_when_the_command_is_interrupted(tmp_path: Path) -> None:
    throttle = Throttle(tmp_path, Patience(first_s=60.0, login_s=600.0))
    gate = make_gate(throttle, tell=lambda _sentence: throttle.stop.set())
    began = time.monotonic()
    with pytest.raises(RemoteError, match="ended before it had logged in"):
        gate.enter(turn_away, "x")
    assert time.monotonic() - began < 5


def throttled(daemon: LoopbackSshd, throttle: Throttle, tell: Callable[[str], None] = silent) -> SshSession:
    gate = throttle.gate((daemon.endpoint,), Limits(8, 60), "lower the limits", tell)
    return SshSession(daemon.connection, "loopback", gate)


def half_open(daemon: LoopbackSshd) -> socket.socket:
    """A connection that does not log in; the one by which the fixture waited for the daemon may still be counted."""
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        waiting = socket.create_connection(("127.0.0.1", daemon.port))
        with contextlib.suppress(ConnectionResetError):
            if waiting.recv(4) == b"SSH-":
                return waiting
        waiting.close()
    pytest.fail("sshd admits nobody")


def test_sshd_with_a_full_startup_queue_is_tried_again(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    loopback_sshd.restart("MaxStartups 1", "LoginGraceTime 60")
    waiting = half_open(loopback_sshd)
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        waiting.close()

    with throttled(loopback_sshd, Throttle(tmp_path / "c", QUICK), tell) as session:
        assert session.programs_run == 0
    assert "127.0.0.1 turned us away; next try in" in told[0]


def test_many_sessions_pass_a_server_that_admits_one_login_at_a_time(
    loopback_sshd: LoopbackSshd, tmp_path: Path
) -> None:
    loopback_sshd.restart("MaxStartups 1")
    throttle = Throttle(tmp_path / "c", QUICK)
    failures: list[Exception] = []

    def one() -> None:
        try:
            with throttled(loopback_sshd, throttle):
                pass
        except RemoteError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert loopback_sshd.log.read_text().count("Accepted publickey") == 8


def test_sshd_sees_no_more_refused_logins_than_allowed(loopback_sshd: LoopbackSshd, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    connection = Connection(loopback_sshd.endpoint, (), tmp_path / "stranger")
    throttle = Throttle(tmp_path / "c", QUICK)
    for number in range(MAX_REFUSED_LOGINS + 2):
        gate = throttle.gate((loopback_sshd.endpoint,), Limits(8, 60), "", silent)
        kind: type[RemoteError] = AuthenticationError if number < MAX_REFUSED_LOGINS else ThrottledError
        with pytest.raises(kind), SshSession(connection, "loopback", gate):
            pass
    # sshd says so once for each connection whose user it lets go.
    assert loopback_sshd.log.read_text().count("Connection from ") == MAX_REFUSED_LOGINS
