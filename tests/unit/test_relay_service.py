# SPDX-License-Identifier: Apache-2.0
"""The relay over the real link: offers become sockets, signature requests reach the right broker and no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Answer, Deny, Offer, Sign, SignOk
from glideinwms_bosco.relay import agent_server, places, signing
from glideinwms_bosco.relay.service import MAX_OFFERS_HELD
from glideinwms_bosco.relay.status_query import ask, ask_status
from glideinwms_bosco.sshwire import agent
from glideinwms_bosco.sshwire.handle import MAINTAIN, handle_id, named_anchor
from glideinwms_bosco.sshwire.keys import parse_authorized
from tests.unit.relay_fixture import WAIT_S, FakeBroker, RelayHost, fake_broker, relay_host
from tests.unit.ssh_version import needs_session_bind
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
HOST = "login.example.org"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RelayHost]:
    with relay_host(tmp_path) as made:
        yield made


@pytest.fixture
def broker(tmp_path: Path) -> FakeBroker:
    return fake_broker(tmp_path / "cms", "cms")


def started(host: RelayHost, *brokers: FakeBroker, **conf: Any) -> None:
    host.write_conf({broker.identity.cert_file.stem: broker for broker in brokers}, **conf)
    host.start()


def add(broker: FakeBroker, **other: Any) -> str:
    return broker.add(f"{HOST} {KEY_LINE}\n", f"{HOST}:22", "pilot", **other)


def sock(host: RelayHost, handle: str) -> Path:
    return host.sockets / f"{handle}.sock"


def sign(host: RelayHost, broker: FakeBroker, handle: str, data: bytes = b"data") -> bytes:
    return ask(sock(host, handle), agent.sign_request(broker.keys[handle].blob, data))


def test_offer_becomes_socket_and_files(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    ack = host.connect(broker)
    assert [(result.handle, result.code) for result in ack.results] == [(handle, 0)]
    mode = sock(host, handle).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert stat.S_IMODE((host.sockets / f"{handle}.conf").stat().st_mode) == 0o640
    assert (host.sockets / f"{handle}.known_hosts").read_text() == f"{HOST} {KEY_LINE}\n"
    listed = agent.parse_identities(ask(sock(host, handle), agent.list_request()))
    assert listed == [(broker.keys[handle].blob, f"gwms-broker:{handle}")]


def test_signature_comes_from_the_broker(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    assert agent.parse_signature(sign(host, broker, handle)) == broker.keys[handle].sign(b"data")
    request = broker.asked[0]
    assert (request.handle, request.data, request.binds, request.evidence) == (handle, b"data", (), ())
    context = json.loads(request.context)
    assert (context["ssh_pid"], context["uid"], context["bind_attempted"]) == (os.getpid(), os.getuid(), False)


@pytest.mark.parametrize("kind", [1, 9, 12, 14, 17, 18, 19, 20, 22, 23, 25, 26, 255])
def test_every_other_agent_message_fails(host: RelayHost, broker: FakeBroker, kind: int) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    assert ask(sock(host, handle), bytes([kind]) + b"\0\0\0\0") == agent.failure()
    assert not broker.asked


def test_key_of_another_handle_is_not_signed_with(host: RelayHost, broker: FakeBroker) -> None:
    first, second = add(broker), add(broker)
    started(host, broker)
    host.connect(broker)
    answer = ask(sock(host, first), agent.sign_request(broker.keys[second].blob, b"data"))
    assert answer == agent.failure()
    assert not broker.asked


@pytest.mark.parametrize(("sent", "answer"), [(b"", b""), (b"\0\0\0\1", b""), (b"\0\0\0\1\1", b"\0\0\0\1\5")])
def test_connection_that_falls_silent_is_cut_off(
    host: RelayHost, broker: FakeBroker, monkeypatch: pytest.MonkeyPatch, sent: bytes, answer: bytes
) -> None:
    monkeypatch.setattr(agent_server, "IDLE_S", 0.05)
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WAIT_S)
        client.connect(str(sock(host, handle)))
        client.sendall(sent)
        assert client.makefile("rb").read() == answer


def test_stops_when_something_changes_at_the_same_moment(host: RelayHost, broker: FakeBroker) -> None:
    started(host, broker)
    relay = host.relay
    assert relay is not None

    async def stop() -> None:
        await asyncio.sleep(0)  # its status keeper waits now
        relay._changed.set()
        await asyncio.wait_for(relay.stop(), WAIT_S)

    host.run(stop())
    assert not host.sockets.joinpath("status.json").exists()
    host.relay = None


def test_client_that_does_not_read_its_answers_does_not_hold_up_the_end(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    request = agent.list_request()
    flood = (len(request).to_bytes(4, "big") + request) * 1000
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(sock(host, handle)))
        client.settimeout(0.5)
        with pytest.raises(socket.timeout):
            while True:
                client.sendall(flood)
        began = time.monotonic()
        host.stop()
        assert time.monotonic() - began < WAIT_S / 2


def test_uid_that_is_not_allowed_is_cut_off(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker, allowed_uids=[os.getuid() + 1])
    host.connect(broker)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(sock(host, handle)))
        assert client.recv(1) == b""


def test_ssh_that_has_read_of_the_old_key_may_go_on_when_the_key_changes(host: RelayHost, broker: FakeBroker) -> None:
    anchor = named_anchor("nersc")
    handle = handle_id(broker.identity.spki_der, anchor, "submit")
    old, new = add(broker), add(broker)
    keys = [broker.keys[old], broker.keys[new]]
    items = [replace(item, handle=handle, anchor=anchor) for item in broker.items]
    broker.items = items[:1]
    started(host, broker)
    host.connect(broker)
    broker.items = items[1:]
    assert host.run(broker.offer()).results[0].code == 0
    assert parse_authorized((host.sockets / f"{handle}.pub").read_text()).blob == keys[1].blob
    listed = agent.parse_identities(ask(sock(host, handle), agent.list_request()))
    assert [blob for blob, _ in listed] == [keys[1].blob, keys[0].blob]
    for key in keys:
        broker.keys[handle] = key
        answer = ask(sock(host, handle), agent.sign_request(key.blob, b"data"))
        assert agent.parse_signature(answer) == key.sign(b"data")


def test_connections_are_bounded_per_broker_and_in_all(
    host: RelayHost, broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in (("OF_HANDLE", 2), ("OF_BROKER", 3), ("OF_RELAY", 4)):
        monkeypatch.setattr(places, f"MAX_{name}", limit)
    monkeypatch.setattr(places, "RESERVED_OF_BROKER", 1)
    other = fake_broker(tmp_path / "osg", "osg")
    mine, theirs = [add(broker), add(broker)], [add(other), add(other)]
    started(host, broker, other)
    host.connect(broker)
    host.connect(other)

    def open_count() -> int:
        return int(host.status()["connections"])

    with contextlib.ExitStack() as stack:

        def connect(handle: str) -> socket.socket:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(5)
            client.connect(str(sock(host, handle)))
            return client

        # handle, and whether there is a place: the limit of a handle, of a broker and of the relay come in turn.
        taken = 0
        for handle, has_place in ((mine[0], True), (mine[0], True), (mine[0], False), (mine[1], True),
                                  (mine[1], False), (theirs[0], True), (theirs[1], False)):  # fmt: skip
            client = connect(handle)
            taken += has_place
            if not has_place:
                assert client.recv(1) == b""
            host.wait_for(lambda: open_count() == taken)  # noqa: B023 - waited for at once
        assert [row["connections"] for row in host.status()["brokers"]] == [3, 1]
    host.wait_for(lambda: open_count() == 0)
    assert ask(sock(host, theirs[1]), agent.list_request())


def test_others_cannot_take_a_brokers_last_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: two VOs' brokers hang, and all the relay's places are taken by ssh that wait for them."""
    for name, value in (("MAX_OF_BROKER", 2), ("MAX_OF_RELAY", 4), ("RESERVED_OF_BROKER", 1)):
        monkeypatch.setattr(places, name, value)
    taken = places.Places()
    assert not any(taken.take(f"{pin}{i}", pin) for pin in ("slow", "slower") for i in range(2))
    assert taken.take("a", "third") == ""
    assert taken.take("b", "third") == "4 agent connections of this relay"


def test_refusal_is_kept_for_who_asks_why(host: RelayHost, broker: FakeBroker) -> None:
    async def deny(_request: Sign) -> Answer:
        return Deny(DenyCode.HOST_KEY, "host key not registered\nforged line", 0)

    handle = add(broker)
    broker.answer = deny
    started(host, broker)
    host.connect(broker)
    before = time.time()
    assert sign(host, broker, handle) == agent.failure()
    last = ask_status(sock(host, handle), handle)["last_deny"]
    assert (last["code"], last["reason"]) == (3, "host key not registered?forged line")
    assert before <= last["t"] <= time.time()


def test_code_of_a_newer_broker_does_not_hurt(host: RelayHost, broker: FakeBroker) -> None:
    async def deny(_request: Sign) -> Answer:
        return Deny(4711, "new", 0)

    handle = add(broker)
    broker.answer = deny
    started(host, broker)
    host.connect(broker)
    assert sign(host, broker, handle) == agent.failure()
    assert ask_status(sock(host, handle), handle)["last_deny"]["code"] == DenyCode.INTERNAL


def test_waits_for_a_broker_that_comes_back(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker, sign_deadline_s=20)
    host.connect(broker)
    host.run(broker.leave())
    host.wait_for(lambda: host.status()["brokers"][0]["state"] == "down")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(sock(host, handle)))
        request = agent.sign_request(broker.keys[handle].blob, b"data")
        client.sendall(len(request).to_bytes(4, "big") + request)
        host.wait_for(lambda: host.status()["brokers"][0]["outstanding"] == 1)
        host.connect(broker)
        size = int.from_bytes(client.recv(4, socket.MSG_WAITALL), "big")
        assert agent.parse_signature(client.recv(size, socket.MSG_WAITALL)) == broker.keys[handle].sign(b"data")


def test_request_is_sent_again_when_the_link_breaks(host: RelayHost, broker: FakeBroker) -> None:
    async def vanish(_request: Sign) -> Answer:
        broker.answer = None
        assert broker.link is not None
        again.append(asyncio.ensure_future(broker.connect(host.port, host.identity.pin)))
        broker.link.abort(LinkError("cut"))
        raise LinkError("cut")

    again: list[asyncio.Future[Any]] = []
    handle = add(broker)
    broker.answer = vanish
    started(host, broker)
    host.connect(broker)
    assert agent.parse_signature(sign(host, broker, handle)) == broker.keys[handle].sign(b"data")
    assert len(broker.asked) == 2


def test_broker_that_is_away_fails_after_the_deadline_with_a_reason(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker, sign_deadline_s=1)
    host.connect(broker)
    host.run(broker.leave())
    host.wait_for(lambda: host.status()["brokers"][0]["state"] == "down")
    assert ask(sock(host, handle), agent.list_request()) == agent.failure()
    assert sign(host, broker, handle) == agent.failure()
    status = ask_status(sock(host, handle), handle)
    assert status["broker"] == "down"
    assert status["last_deny"]["code"] == DenyCode.UNAVAILABLE


def test_silent_broker_fails_at_the_deadline(host: RelayHost, broker: FakeBroker) -> None:
    async def silent(_request: Sign) -> Answer:
        await asyncio.sleep(60)
        raise AssertionError

    handle = add(broker)
    broker.answer = silent
    started(host, broker, sign_deadline_s=1)
    host.connect(broker)
    before = time.monotonic()
    assert sign(host, broker, handle) == agent.failure()
    assert 0.9 < time.monotonic() - before < 3


def test_slow_broker_takes_nothing_from_another(
    host: RelayHost, broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_request: Sign) -> Answer:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(signing, "MAX_OUTSTANDING", 2)
    other = fake_broker(tmp_path / "osg", "osg")
    slow, quick = add(broker), add(other)
    broker.answer = silent
    started(host, broker, other, sign_deadline_s=5)
    host.connect(broker)
    host.connect(other)
    waiting = []
    for _ in range(2):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(sock(host, slow)))
        request = agent.sign_request(broker.keys[slow].blob, b"data")
        client.sendall(len(request).to_bytes(4, "big") + request)
        waiting.append(client)
    host.wait_for(lambda: host.status()["brokers"][0]["outstanding"] == 2)
    before = time.monotonic()
    assert sign(host, broker, slow) == agent.failure()
    assert ask_status(sock(host, slow), slow)["last_deny"]["code"] == DenyCode.RATE
    assert agent.parse_signature(sign(host, other, quick))
    assert time.monotonic() - before < 2
    for client in waiting:
        client.close()


def test_large_offer_holds_up_no_other_brokers_signature(host: RelayHost, broker: FakeBroker, tmp_path: Path) -> None:
    other = fake_broker(tmp_path / "osg", "osg")
    quick = add(other)
    started(host, broker, other)
    host.connect(other)
    host.connect(broker)
    for _ in range(150):
        add(broker)

    async def meanwhile() -> int:
        assert host.relay is not None
        offering, signed = asyncio.ensure_future(broker.offer()), 0
        while not offering.done():
            assert await host.relay._signing.sign(Sign(quick, "{}", (), (), b"data", 0))
            signed += not offering.done()
        assert len((await offering).results) == 150
        return signed

    assert host.run(meanwhile()) >= 10


def test_offers_that_do_not_wait_for_answers_end_the_link(host: RelayHost, broker: FakeBroker) -> None:
    """Attack: 256 offers of 3 MiB at once would be most of the relay's memory."""
    add(broker)
    started(host, broker)
    host.connect(broker)

    async def flood() -> list[object]:
        link = broker.link
        assert link is not None
        assert host.relay is not None
        # As if the first one were a large one that takes its time.
        async with host.relay._lock(broker.pin):
            offers = [link.request(Offer(2 + i, tuple(broker.items)), WAIT_S) for i in range(MAX_OFFERS_HELD + 1)]
            return list(await asyncio.gather(*offers, return_exceptions=True))

    answers = host.run(flood())
    assert all(isinstance(answer, LinkError) for answer in answers)
    host.connect(broker)


def test_stop_in_the_middle_of_an_offer_leaves_no_socket(host: RelayHost, broker: FakeBroker) -> None:
    started(host, broker)
    host.connect(broker)
    handles = [add(broker) for _ in range(50)]

    async def stop() -> None:
        relay, host.relay = host.relay, None
        assert relay is not None
        offers = [asyncio.ensure_future(broker.offer())]
        while not sock(host, handles[0]).exists():
            await asyncio.sleep(0)
        await relay.stop()
        await asyncio.gather(*offers, return_exceptions=True)

    host.run(stop())
    assert not list(host.sockets.glob("*.sock"))


def test_offer_is_taken_whole_when_the_link_breaks_meanwhile(host: RelayHost, broker: FakeBroker) -> None:
    gone = add(broker)
    started(host, broker)
    host.connect(broker)
    broker.items.clear()
    handles = [add(broker) for _ in range(50)]

    async def cut() -> None:
        link = broker.link
        assert link is not None
        offering = asyncio.ensure_future(broker.offer())
        while not sock(host, handles[0]).exists():
            await asyncio.sleep(0)
        link.abort(LinkError("cut"))
        with contextlib.suppress(LinkError):
            await offering

    host.run(cut())
    host.wait_for(lambda: all(sock(host, handle).exists() for handle in handles) and not sock(host, gone).exists())


def test_handle_of_another_broker_is_not_taken(host: RelayHost, broker: FakeBroker, tmp_path: Path) -> None:
    """Attack: VO B's broker offers VO A's handle, with A's public key."""
    thief = fake_broker(tmp_path / "osg", "osg")
    handle = add(broker)
    thief.items = list(broker.items)
    started(host, broker, thief)
    ack = host.connect(thief)
    assert [result.code for result in ack.results] == [DenyCode.NOT_YOURS]
    assert not sock(host, handle).exists()
    host.connect(broker)
    host.connect(thief)
    assert agent.parse_signature(sign(host, broker, handle))
    assert not thief.asked


def test_unknown_broker_is_turned_away(host: RelayHost, broker: FakeBroker, tmp_path: Path) -> None:
    started(host, broker)
    with pytest.raises(LinkError):
        host.connect(fake_broker(tmp_path / "stranger", "stranger"))


def test_handle_that_is_gone_from_the_offer_is_removed(host: RelayHost, broker: FakeBroker) -> None:
    first, second = add(broker), add(broker)
    started(host, broker)
    host.connect(broker)
    broker.items.pop(0)
    host.run(broker.offer())
    assert not list(host.sockets.glob(f"{first}*"))
    assert sock(host, second).exists()


def test_socket_of_a_broker_that_left_stays(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    host.run(broker.leave())
    host.wait_for(lambda: host.status()["brokers"][0]["state"] == "down")
    assert ask_status(sock(host, handle), handle)["broker"] == "down"


def test_newer_connection_of_the_same_broker_wins(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    first = broker.link
    host.connect(broker)
    assert first is not None
    host.run(first.wait_closed())
    assert agent.parse_signature(sign(host, broker, handle))
    assert host.status()["brokers"][0]["state"] == "up"


def test_stop_leaves_no_socket_and_no_status(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    host.stop()
    assert not sock(host, handle).exists()
    assert not (host.sockets / "status.json").exists()


def test_start_clears_what_another_daemon_has_left(host: RelayHost, broker: FakeBroker) -> None:
    host.sockets.mkdir(mode=0o750)
    old, foreign = host.sockets / ("a" * 26 + ".conf"), host.sockets / "notes.txt"
    old.write_text("x")
    foreign.write_text("x")
    started(host, broker)
    assert not old.exists()
    assert foreign.exists()


def test_status_file_follows_changes(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    file = host.sockets / "status.json"
    assert json.loads(file.read_text())["brokers"][0]["state"] == "down"
    host.connect(broker)
    host.wait_for(lambda: len(json.loads(file.read_text())["handles"]) == 1)
    row = json.loads(file.read_text())["handles"][0]
    assert (row["handle"], row["user"], row["hosts"], row["purpose"]) == (handle, "pilot", [f"{HOST}:22"], "submit")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_reload_ends_a_broker_that_is_not_listed_any_more(host: RelayHost, broker: FakeBroker, tmp_path: Path) -> None:
    other = fake_broker(tmp_path / "osg", "osg")
    gone, stays = add(broker), add(other)
    started(host, broker, other)
    host.connect(broker)
    host.connect(other)
    host.write_conf({"osg": other})
    assert host.relay is not None
    host.run(host.relay.reload(host.conf))
    assert not list(host.sockets.glob(f"{gone}*"))
    assert agent.parse_signature(sign(host, other, stays))
    assert broker.link is not None
    host.run(broker.link.wait_closed())


def test_maintain_handle_has_a_socket_too(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker, purpose=MAINTAIN)
    started(host, broker)
    host.connect(broker)
    assert ask_status(sock(host, handle), handle)["purpose"] == MAINTAIN


@needs_session_bind
def test_real_ssh_logs_in_and_its_bind_reaches_the_broker(
    host: RelayHost, broker: FakeBroker, loopback_sshd: LoopbackSshd
) -> None:
    place = f"[127.0.0.1]:{loopback_sshd.port}"
    known = f"{place} {loopback_sshd.host_key}\n"
    handle = broker.add(known, f"127.0.0.1:{loopback_sshd.port}", loopback_sshd.user)
    started(host, broker)
    host.connect(broker)
    authorize(loopback_sshd, host, handle)
    done = ssh(host, handle, "-p", str(loopback_sshd.port), f"{loopback_sshd.user}@127.0.0.1", "echo", "in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    request = broker.asked[0]
    bind = agent.parse_bind(request.binds[0])
    assert len(request.binds) == 1
    assert bind.session_id in request.data
    assert json.loads(request.context)["ssh_exe"].endswith("/ssh")


@needs_session_bind
def test_host_with_another_key_is_refused_by_ssh_itself(
    host: RelayHost, broker: FakeBroker, loopback_sshd: LoopbackSshd
) -> None:
    known = f"[127.0.0.1]:{loopback_sshd.port} {KEY_LINE}\n"
    handle = broker.add(known, f"127.0.0.1:{loopback_sshd.port}", loopback_sshd.user)
    started(host, broker)
    host.connect(broker)
    done = ssh(host, handle, f"{loopback_sshd.user}@127.0.0.1", "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    assert not broker.asked


def test_session_bind_is_sent_on_even_if_it_is_nonsense(host: RelayHost, broker: FakeBroker) -> None:
    """Attack: a bind that fails must not make the connection look as if none was tried."""
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    head = b"\x1b" + len(agent.SESSION_BIND).to_bytes(4, "big") + agent.SESSION_BIND.encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(sock(host, handle)))
        for request in (head + b"nonsense", agent.sign_request(broker.keys[handle].blob, b"data")):
            client.sendall(len(request).to_bytes(4, "big") + request)
            size = int.from_bytes(client.recv(4, socket.MSG_WAITALL), "big")
            client.recv(size, socket.MSG_WAITALL)
    assert broker.asked[0].binds == (b"nonsense",)
    assert json.loads(broker.asked[0].context)["bind_attempted"] is True


def test_evidence_of_a_tap_goes_with_the_signature_request_of_its_ssh(host: RelayHost, broker: FakeBroker) -> None:
    handle = add(broker)
    started(host, broker)
    host.connect(broker)
    assert ask(sock(host, handle), agent.evidence_request(b"key", b"signature", os.getpid())) == agent.success()
    assert ask(sock(host, handle), agent.evidence_request(b"key2", b"signature2", os.getpid() + 1)) == agent.success()
    sign(host, broker, handle)
    assert broker.asked[0].evidence == ((b"key", b"signature"),)


def authorize(sshd: LoopbackSshd, host: RelayHost, handle: str) -> None:
    (sshd.directory / "authorized_keys").write_text((host.sockets / f"{handle}.pub").read_text())


def ssh(host: RelayHost, handle: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["/usr/bin/ssh", "-F", str(host.sockets / f"{handle}.conf"), *arguments]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)


def test_signature_of_impossible_size_is_refused(host: RelayHost, broker: FakeBroker) -> None:
    async def empty(_request: Sign) -> Answer:
        return SignOk(b"")

    handle = add(broker)
    broker.answer = empty
    started(host, broker)
    host.connect(broker)
    assert sign(host, broker, handle) == agent.failure()
