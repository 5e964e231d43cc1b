# SPDX-License-Identifier: Apache-2.0
"""A connection that stands: requests both ways, bad peers, lost peers, bounds. Real TLS over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.channel import MAX_CLOCK_SKEW_S, LinkConnection
from glideinwms_bosco.link.connection import Handler, Limits, dial, listen
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.frames import MAX_BODY, encode
from glideinwms_bosco.link.messages import (
    Answer,
    Deny,
    GoAway,
    GoAwayCode,
    Hello,
    Message,
    Offer,
    OfferAck,
    OfferItem,
    OfferResult,
    Ping,
    Pong,
    Sign,
    SignOk,
)
from glideinwms_bosco.link.tls import client_context
from tests.unit.link_fixture import (
    LOOPBACK,
    SIGN,
    Ends,
    RawPeer,
    Relay,
    answer_sign,
    dial_to,
    frame,
    hello,
    link_of,
    make_ends,
    raw_client,
    raw_relay,
    relay_of,
    run,
)

DEADLINE_S = 10.0
QUICK = Limits(hello_s=0.2, close_s=0.5)


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return make_ends(tmp_path)


async def never(_message: Any) -> Answer:
    """A handler that has no answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def sign_at_length(_message: Sign) -> Answer:
    """A handler whose answers fill the buffers of the kernel soon."""
    return SignOk(b"x" * 60000)


class TestRequests:
    def test_relay_gets_its_signature(self, ends: Ends) -> None:
        asked: list[Sign] = []

        async def sign(message: Sign) -> Answer:
            asked.append(message)
            return SignOk(b"signature of " + message.data)

        async def test() -> None:
            async with link_of(ends, sign) as (_, relay):
                answer = await relay.request(SIGN, DEADLINE_S)
                assert answer == SignOk(b"signature of data")
                assert asked == [SIGN]
                assert relay.outstanding == 0

        run(test())

    def test_request_right_behind_the_relays_hello_is_answered(self, ends: Ends) -> None:
        """A relay with requests waiting sends them before the dialling side goes on."""

        async def first(relay: Relay) -> Answer:
            return await (await relay.came.get()).request(SIGN, DEADLINE_S)

        def serve(connection: LinkConnection) -> None:
            connection.on_request = answer_sign

        async def test() -> None:
            async with relay_of(ends) as relay:
                asking = asyncio.ensure_future(first(relay))
                pins = [ends.relay.pin]
                broker = await dial(LOOPBACK, relay.port, ends.broker, pins, name="f", on_connection=serve)
                try:
                    assert isinstance(await asking, SignOk)
                finally:
                    broker.close()
                    await broker.wait_closed()

        run(test())

    def test_a_refusal_is_an_answer(self, ends: Ends) -> None:
        async def refuse(_message: Sign) -> Answer:
            return Deny(15, "more than 60 in an hour", 30)

        async def test() -> None:
            async with link_of(ends, refuse) as (_, relay):
                assert await relay.request(SIGN, DEADLINE_S) == Deny(15, "more than 60 in an hour", 30)

        run(test())

    def test_offer_of_a_thousand_handles_passes(self, ends: Ends) -> None:
        item = OfferItem("h", b"k" * 400, b"k" * 400, b"", "c", "submit", "u", "h:22", "x" * 400)
        offer = Offer(1, tuple(replace(item, handle=f"{at:026}") for at in range(1000)))

        async def take(offer: Offer) -> Answer:
            return OfferAck.fitting(OfferResult(item.handle, 19, "no " * 100) for item in offer.items)

        async def test() -> None:
            async with link_of(ends, on_offer=take) as (broker, _):
                ack = await broker.request(offer, DEADLINE_S)
                assert isinstance(ack, OfferAck)
                assert [(result.handle, result.code) for result in ack.results] == [
                    (item.handle, 19) for item in offer.items
                ]
                assert ack.results[0].reason == "no " * 100

        run(test())

    def test_broker_offers(self, ends: Ends) -> None:
        async def take(offer: Offer) -> Answer:
            return OfferAck((OfferResult("a" * 26, 0, f"generation {offer.generation}"),))

        async def test() -> None:
            async with link_of(ends, on_offer=take) as (broker, _):
                for generation in (1, 2):
                    answer = await broker.request(Offer(generation, ()), DEADLINE_S)
                    assert answer == OfferAck((OfferResult("a" * 26, 0, f"generation {generation}"),))
                with pytest.raises(LinkError, match="generation 0"):
                    await broker.request(Offer(0, ()), DEADLINE_S)

        run(test())

    def test_answers_may_come_in_any_order(self, ends: Ends) -> None:
        gates = {b"%d" % number: asyncio.Event for number in range(3)}

        async def test() -> None:
            events = {data: make() for data, make in gates.items()}

            async def sign(message: Sign) -> Answer:
                await events[message.data].wait()
                return SignOk(message.data)

            async with link_of(ends, sign) as (_, relay):
                tasks = [asyncio.ensure_future(relay.request(replace(SIGN, data=data), DEADLINE_S)) for data in events]
                for data, task in reversed(list(zip(events, tasks))):
                    events[data].set()
                    assert await task == SignOk(data)

        run(test())

    def test_what_a_handler_raises_is_denied_and_logged(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(_message: Sign) -> Answer:
            raise ValueError("the secret detail")

        async def test() -> None:
            async with link_of(ends, fail) as (_, relay):
                answer = await relay.request(SIGN, DEADLINE_S)
                assert isinstance(answer, Deny)
                assert answer.code == DenyCode.INTERNAL
                assert "secret" not in answer.reason
                assert await relay.request(SIGN, DEADLINE_S) == answer

        run(test())
        assert "the secret detail" in caplog.text

    def test_a_handler_that_answers_with_something_else_is_denied(self, ends: Ends) -> None:
        async def confused(_message: Sign) -> Answer:
            return OfferAck(())

        async def test() -> None:
            async with link_of(ends, confused) as (_, relay):
                assert isinstance(await relay.request(SIGN, DEADLINE_S), Deny)

        run(test())

    def test_a_failing_offer_ends_the_connection(self, ends: Ends) -> None:
        """OFFER has no refusal as a whole: the broker must come back and offer anew."""

        async def fail(_offer: Offer) -> Answer:
            raise LinkError("disk full")

        async def test() -> None:
            async with link_of(ends, on_offer=fail) as (broker, relay):
                with pytest.raises(LinkError, match="a request failed inside"):
                    await broker.request(Offer(1, ()), DEADLINE_S)
                await relay.wait_closed()
                assert "disk full" in str(relay.failure)

        run(test())

    def test_no_answer_within_the_deadline(self, ends: Ends) -> None:
        async def test() -> None:
            async with link_of(ends, never) as (_, relay):
                with pytest.raises(LinkError, match=r"gave no answer within 0\.05 s"):
                    await relay.request(SIGN, 0.05)
                assert not relay.closed

        run(test())

    def test_a_late_answer_does_no_harm(self, ends: Ends) -> None:
        async def test() -> None:
            gate = asyncio.Event()

            async def sign(message: Sign) -> Answer:
                if message.data == b"slow":
                    await gate.wait()
                return SignOk(message.data)

            async with link_of(ends, sign) as (_, relay):
                with pytest.raises(LinkError, match="no answer within"):
                    await relay.request(replace(SIGN, data=b"slow"), 0.01)
                assert relay.outstanding == 1
                gate.set()
                assert await relay.request(SIGN, DEADLINE_S) == SignOk(b"data")
                assert relay.outstanding == 0

        run(test())

    def test_a_cancelled_request_does_no_harm(self, ends: Ends) -> None:
        async def test() -> None:
            gate, begun = asyncio.Event(), asyncio.Event()

            async def sign(message: Sign) -> Answer:
                begun.set()
                await gate.wait()
                return SignOk(message.data)

            async with link_of(ends, sign) as (_, relay):
                waiting = asyncio.ensure_future(relay.request(SIGN, DEADLINE_S))
                await begun.wait()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                gate.set()
                assert await relay.request(SIGN, DEADLINE_S) == SignOk(b"data")

        run(test())

    def test_at_most_so_many_at_once(self, ends: Ends) -> None:
        async def test() -> None:
            gate = asyncio.Event()

            async def sign(message: Sign) -> Answer:
                await gate.wait()
                return SignOk(message.data)

            async with link_of(ends, sign) as (_, relay):
                tasks = [asyncio.ensure_future(relay.request(SIGN, DEADLINE_S)) for _ in range(256)]
                await asyncio.sleep(0)
                with pytest.raises(LinkError, match="has 256 requests to answer"):
                    await relay.request(SIGN, DEADLINE_S)
                gate.set()
                assert await asyncio.gather(*tasks) == [SignOk(b"data")] * 256
                assert await relay.request(SIGN, DEADLINE_S) == SignOk(b"data")

        run(test())

    def test_a_request_that_nobody_waits_for_keeps_its_place(self, ends: Ends) -> None:
        """Or the peer would meet more than it allows, and end the connection."""
        few = Limits(outstanding=2)

        async def test() -> None:
            async with link_of(ends, never, relay_limits=few, broker_limits=few) as (_, relay):
                for _ in range(2):
                    with pytest.raises(LinkError, match="no answer"):
                        await relay.request(SIGN, 0.01)
                with pytest.raises(LinkError, match="has 2 requests to answer"):
                    await relay.request(SIGN, 0.01)
                assert not relay.closed

        run(test())

    def test_the_largest_request_passes_and_one_byte_more_is_refused_here(self, ends: Ends) -> None:
        room = MAX_BODY - len(replace(SIGN, data=b"").body())

        async def test() -> None:
            async with link_of(ends) as (_, relay):
                assert await relay.request(replace(SIGN, data=b"x" * room), DEADLINE_S) == SignOk(b"signature")
                with pytest.raises(LinkError, match="too large"):
                    await relay.request(replace(SIGN, data=b"x" * (room + 1)), DEADLINE_S)
                assert await relay.request(SIGN, DEADLINE_S) == SignOk(b"signature")

        run(test())

    def test_round_trip_time_is_measured(self, ends: Ends) -> None:
        async def test() -> None:
            async with link_of(ends) as (_, relay):
                await relay.request(SIGN, DEADLINE_S)  # behind the first PING, so its PONG has come
                assert relay.rtt_s is not None and 0 < relay.rtt_s < DEADLINE_S

        run(test())

    def test_small_frames_are_not_held_back(self, ends: Ends) -> None:
        async def test() -> None:
            async with link_of(ends) as (broker, relay):
                for end in (broker, relay):
                    assert end._outbox is not None
                    plain = end._outbox._transport.get_extra_info("socket")
                    assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0

        run(test())


class TestEnd:
    @pytest.mark.parametrize("end", ["close", "cut"])
    def test_everything_that_waits_ends_at_once(self, ends: Ends, end: str) -> None:
        cancelled: list[str] = []

        async def test() -> None:
            begun = asyncio.Event()

            async def wait(_message: Sign) -> Answer:
                begun.set()
                try:
                    return await never(_message)
                except asyncio.CancelledError:
                    cancelled.append("handler")
                    raise

            async with link_of(ends, wait) as (broker, relay):
                tasks = [asyncio.ensure_future(relay.request(SIGN, 1000)) for _ in range(20)]
                await begun.wait()
                if end == "close":
                    broker.close("maintenance")
                else:
                    broker.abort(LinkError("cut"))
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(result) for result in results} == {LinkError}
                assert len({id(result) for result in results}) == 20
                assert ("maintenance" in str(results[0])) == (end == "close")
                with pytest.raises(LinkError):
                    await relay.request(SIGN, 1000)
                await relay.wait_closed()
                await broker.wait_closed()

        run(test())
        assert len(cancelled) == 20

    def test_a_stopping_relay_tells_its_brokers(self, ends: Ends) -> None:
        async def test() -> None:
            async with relay_of(ends) as relay:
                broker = await dial_to(relay.port, ends)
                assert relay.server is not None
                relay.server.close()
                await broker.wait_closed()
                assert "ended the connection: the relay stops" in str(broker.failure)

        run(test())

    def test_close_may_be_called_twice(self, ends: Ends) -> None:
        async def test() -> None:
            async with link_of(ends) as (broker, _):
                broker.close("first")
                broker.close("second")
                await broker.wait_closed()
                assert "first" in str(broker.failure)

        run(test())

    def test_a_cancelled_dial_leaves_nothing(self, ends: Ends) -> None:
        async def test() -> None:
            heard = asyncio.Event()

            async def talk(peer: RawPeer) -> None:
                heard.set()
                await peer.ended()

            async with raw_relay(ends, talk) as port:
                dialling = asyncio.ensure_future(dial_to(port, ends))
                await heard.wait()
                dialling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await dialling

        run(test())

    def test_the_port_in_use_is_named(self, ends: Ends) -> None:
        async def test() -> None:
            async with relay_of(ends) as relay:
                with pytest.raises(LinkError, match=f"cannot listen on 127.0.0.1:{relay.port}: Address already in use"):
                    await listen(LOOPBACK, relay.port, ends.relay, lambda _: True, lambda _: None, name="second")

        run(test())


class TestPeerBeforeHello:
    @pytest.mark.parametrize(
        ("sent", "words"),
        [
            (frame(Ping(1)), "first frame is of type 0x20, not HELLO"),
            (frame(Offer(1, ()), 1), "first frame is of type 0x02, not HELLO"),
            (encode(0x80, 0, b""), "first frame is of type 0x80, not HELLO"),
            (encode(Hello.TYPE, 0, b"junk" * 40), "HELLO: cut off"),
            (hello() + hello(), "a second HELLO"),
            (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
            (b"\0\0\0\x04....", "frame of 4 bytes"),
        ],
    )
    def test_is_turned_away(self, ends: Ends, sent: bytes, words: str) -> None:
        async def test() -> None:
            async with relay_of(ends, limits=QUICK) as relay:
                peer = await raw_client(relay.port, _client(ends))
                peer.send(sent)
                farewell = await peer.next_of(GoAway)
                assert words in farewell.reason
                assert farewell.code == GoAwayCode.PROTOCOL
                await peer.ended()
                peer.cut()

        run(test())

    def test_relay_does_not_wait_for_ever(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async with relay_of(ends, limits=QUICK) as relay:
                peer = await raw_client(relay.port, _client(ends))
                assert isinstance(await peer.next(), Hello)
                assert "no HELLO in time" in (await peer.next_of(GoAway)).reason
                peer.cut()
                await relay.settled()
                assert relay.came.empty()

        run(test())
        assert "sent no HELLO within 0.2 s" in caplog.text

    def test_broker_does_not_wait_for_ever(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            await peer.ended()

        async def test() -> None:
            async with raw_relay(ends, talk) as port:
                with pytest.raises(LinkError, match=r"sent no HELLO within 0\.2 s"):
                    await dial_to(port, ends, limits=QUICK)

        run(test())

    def test_broker_names_a_relay_that_closes_at_once(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            peer.writer.close()
            await peer.ended()

        async def test() -> None:
            async with raw_relay(ends, talk) as port:
                with pytest.raises(LinkError, match=f"before its HELLO.*{ends.broker.pin}"):
                    await dial_to(port, ends)

        run(test())

    @pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
    def test_refuses_another_version(self, ends: Ends, low: int, high: int) -> None:
        said: list[GoAway] = []

        async def talk(peer: RawPeer) -> None:
            peer.send(hello(version_min=low, version_max=high))
            said.append(await peer.next_of(GoAway))

        async def test() -> None:
            async with raw_relay(ends, talk) as port:
                with pytest.raises(LinkError, match=f"speaks versions {low} to {high} of the protocol, we speak 1"):
                    await dial_to(port, ends)

        run(test())
        assert said == [GoAway(GoAwayCode.VERSION, "only version 1 is spoken here")]

    def test_takes_a_peer_that_also_speaks_newer_versions(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            peer.send(hello(version_min=1, version_max=9))
            await peer.next_of(GoAway)

        async def test() -> None:
            async with raw_relay(ends, talk) as port:
                broker = await dial_to(port, ends)
                broker.close()
                await broker.wait_closed()

        run(test())

    @pytest.mark.parametrize(("ahead_s", "words"), [(300.0, "300 s ahead of"), (-300.0, "300 s behind")])
    def test_warns_of_clocks_that_differ(
        self, ends: Ends, caplog: pytest.LogCaptureFixture, ahead_s: float, words: str
    ) -> None:
        assert words in self._clock(ends, caplog, ahead_s, agrees=False)

    def test_is_silent_about_clocks_within_the_limit(self, ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
        assert "clock" not in self._clock(ends, caplog, MAX_CLOCK_SKEW_S - 5, agrees=True)

    def _clock(self, ends: Ends, caplog: pytest.LogCaptureFixture, ahead_s: float, agrees: bool) -> str:
        async def talk(peer: RawPeer) -> None:
            peer.send(hello(ahead_s))
            await peer.next_of(GoAway)

        async def test() -> None:
            async with raw_relay(ends, talk) as port:
                broker = await dial_to(port, ends)
                assert broker.clock_skew_s == pytest.approx(ahead_s, abs=5)
                assert broker.clock_agrees == agrees
                broker.close()
                await broker.wait_closed()

        run(test())
        return caplog.text

    def test_a_peer_at_the_door_does_not_keep_others_out_for_ever(
        self, ends: Ends, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Attack: open connections and say nothing. The limit turns more away; the places come free again."""

        async def test() -> None:
            async with relay_of(ends, limits=Limits(connect_s=0.5)) as relay:
                silent = [await raw_client(relay.port, None) for _ in range(17)]
                assert await silent[16].ended() == b""
                await relay.settled()
                (await dial_to(relay.port, ends)).close()
                for peer in silent:
                    peer.cut()

        run(test())
        assert caplog.text.count("turned away") == 1


def _client(ends: Ends) -> Any:
    context = client_context(ends.broker)
    context.check_hostname = False
    return context


Talk = Callable[[RawPeer], Awaitable[None]]


class TestPeerAfterHello:
    def _failure(
        self, ends: Ends, talk: Talk, limits: Limits = QUICK, requests: int = 0, on_request: Handler = answer_sign
    ) -> str:
        """Why the broker's end came down, against a relay that says HELLO and then does what `talk` does."""

        async def whole(peer: RawPeer) -> None:
            peer.send(hello())
            assert isinstance(await peer.next(), Hello)
            await talk(peer)

        async def test() -> LinkConnection:
            async with raw_relay(ends, whole) as port:
                broker = await dial_to(port, ends, on_request=on_request, limits=limits)
                tasks = [
                    asyncio.ensure_future(broker.request(Offer(number + 1, ()), 1000)) for number in range(requests)
                ]
                await broker.wait_closed()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(result) for result in results} <= {LinkError}
                return broker

        return str(run(test()).failure)

    @pytest.mark.parametrize(
        ("sent", "words"),
        [
            (encode(0x7F, 1, b""), "unknown type 0x7f"),
            (encode(0x00, 1, b""), "unknown type 0x00"),
            (b"\0\1\0\1\1", "frame of 65537 bytes"),
            (b"GET / HTTP/1.1\r\n\r\n", "frame of 1195725856 bytes"),
            (encode(Sign.TYPE, 1, b"garbage"), "SIGN: cut off"),
            (encode(Ping.TYPE, 0, Ping(1).body() + b"\0"), "PING: 1 bytes too many"),
            (frame(Pong(999)), "PONG without its PING"),
            (frame(SIGN, 0), "request number 0 is not free"),
            (frame(SIGN, 7) + frame(SIGN, 7), "request number 7 is not free"),
            (frame(SignOk(b"x"), 5), "answer to request 5, which was not asked"),
            (frame(SignOk(b"x"), 1), "answer of type 0x11 does not fit request 1"),
            (b"".join(frame(SIGN, rid) for rid in range(1, 258)), "more than 256 requests at once"),
        ],
    )
    def test_breaking_the_protocol_ends_the_connection(self, ends: Ends, sent: bytes, words: str) -> None:
        said: list[GoAway] = []

        async def talk(peer: RawPeer) -> None:
            await peer.next_of(Offer)
            peer.send(sent)
            said.append(await peer.next_of(GoAway))

        failure = self._failure(ends, talk, requests=1)

        assert words in failure and "breaks the protocol" in failure
        assert said[0].code == GoAwayCode.PROTOCOL and words in said[0].reason

    def test_unknown_high_types_are_passed_over(self, ends: Ends) -> None:
        answers: list[Message] = []

        async def talk(peer: RawPeer) -> None:
            peer.send(encode(0x80, 3, b"anything") + encode(0xFF, 0, b"") + frame(SIGN, 3))
            answers.append(await peer.next_of(SignOk))
            peer.send(frame(GoAway(0, "done")))

        assert "ended the connection: done" in self._failure(ends, talk)
        assert answers == [SignOk(b"signature")]

    def test_a_number_may_be_used_again_after_its_answer(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            for _ in range(3):
                peer.send(frame(SIGN, 7))
                await peer.next_of(SignOk)
            peer.send(frame(GoAway(0, "done")))

        assert "done" in self._failure(ends, talk)

    def test_frames_may_come_byte_by_byte(self, ends: Ends) -> None:
        answers: list[Message] = []

        async def talk(peer: RawPeer) -> None:
            for byte in frame(SIGN, 3):
                peer.send(bytes([byte]))
                await asyncio.sleep(0)
            answers.append(await peer.next_of(SignOk))
            peer.send(frame(GoAway(0, "done")))

        self._failure(ends, talk)
        assert answers == [SignOk(b"signature")]

    def test_frames_behind_hello_are_not_lost(self, ends: Ends) -> None:
        """HELLO and the first request in one TLS record: the handler must be in place already."""

        async def test() -> None:
            async with relay_of(ends, on_request=_ack) as relay:
                peer = await raw_client(relay.port, _client(ends))
                peer.send(hello() + frame(Offer(1, ()), 1))
                assert await peer.next_of(OfferAck) == OfferAck(())
                peer.cut()

        run(test())

    def test_a_silent_peer_is_given_up(self, ends: Ends) -> None:
        """The host went down: no packet says so."""

        async def talk(peer: RawPeer) -> None:
            await peer.ended()

        failure = self._failure(ends, talk, Limits(ping_every_s=0.05, dead_after_s=0.2), requests=3)

        assert "gave no sign of life for 0.2 s" in failure

    def test_only_a_pong_is_a_sign_of_life(self, ends: Ends) -> None:
        """A peer that talks and never reads must not live for ever."""

        async def talk(peer: RawPeer) -> None:
            reading = asyncio.ensure_future(peer.ended())
            while not reading.done():
                peer.send(frame(Ping(1)))
                await asyncio.wait([reading], timeout=0.02)

        assert "no sign of life" in self._failure(ends, talk, Limits(ping_every_s=0.05, dead_after_s=0.2))

    def test_pongs_keep_it_alive(self, ends: Ends) -> None:
        async def talk(peer: RawPeer) -> None:
            for _ in range(8):
                peer.send(frame(Pong((await peer.next_of(Ping)).nonce)))
            peer.send(frame(GoAway(0, "done")))

        assert "done" in self._failure(ends, talk, Limits(ping_every_s=0.05, dead_after_s=0.2))

    def test_a_peer_that_asks_and_never_reads_is_cut(self, ends: Ends) -> None:
        """Attack: make the other end keep answers until it has no memory left."""

        async def talk(peer: RawPeer) -> None:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.send(b"".join(frame(SIGN, rid) for rid in range(1, 257)))
            with contextlib.suppress(OSError):
                while not peer.writer.is_closing():  # only writing shows that the other end has cut
                    peer.send(frame(Ping(1)))
                    await peer.writer.drain()
                    await asyncio.sleep(0.01)

        failure = self._failure(ends, talk, Limits(buffer_bytes=256 * 1024), on_request=sign_at_length)

        assert "does not read" in failure
        assert int(failure.split(":")[-1].split()[0]) <= 256 * 1024

    def test_requests_to_a_peer_that_does_not_read_fail_at_once(self, ends: Ends) -> None:
        async def test() -> None:
            released = asyncio.Event()

            async def whole(peer: RawPeer) -> None:
                peer.send(hello())
                peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await released.wait()

            async with raw_relay(ends, whole) as port:
                broker = await dial_to(port, ends, limits=Limits(buffer_bytes=256 * 1024))
                message = replace(SIGN, data=b"x" * 60000)
                tasks = [asyncio.ensure_future(broker.request(message, 1000)) for _ in range(250)]
                done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                assert all("does not read" in str(task.exception()) for task in done)
                assert broker._outbox is not None
                assert broker._outbox.waiting_bytes <= 256 * 1024 + 65536
                assert not broker.closed
                broker.abort(LinkError("enough"))
                released.set()
                await asyncio.wait(waiting)
                await broker.wait_closed()
                assert all("enough" in str(task.exception()) for task in waiting)

        run(test())


async def _ack(_offer: Offer) -> Answer:
    return OfferAck(())
