# SPDX-License-Identifier: Apache-2.0
"""One standing connection between broker and relay: HELLO, then requests both ways over one TLS stream.

Nothing of the peer is acted upon before `admit` has accepted its certificate and its HELLO has come. Memory is
bounded whatever the peer does: by the frame size, the requests at work in each direction and the bytes that wait to
be written. When the connection ends, for whatever reason, everything that waits on it ends at once with LinkError.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Optional

from glideinwms_bosco.errors import LinkError, WireError
from glideinwms_bosco.link import frames, messages
from glideinwms_bosco.link.admission import Admit, connection_error
from glideinwms_bosco.link.calls import Calls
from glideinwms_bosco.link.local import LocalEnd
from glideinwms_bosco.link.messages import VERSION, Answer, GoAway, GoAwayCode, Hello, Message, Request
from glideinwms_bosco.link.outbox import Outbox
from glideinwms_bosco.link.pulse import Pulse
from glideinwms_bosco.link.serving import Handler, Serving
from glideinwms_bosco.sshwire.handle import spki_pin

log = logging.getLogger(__name__)

MAX_CLOCK_SKEW_S = 120.0
"""Beyond this difference between the two clocks validity times mean nothing: warn, and use no certificates."""
_NO_RID = 0


class LinkConnection(asyncio.Protocol):
    """Made by `connection.dial` and `connection.listen`, and ready when they hand it out.

    Attributes:
        on_request: called for each request of the peer; to be set before the first one comes. What it raises becomes
            DENY 18 and a line in the log. It is cancelled when the connection ends.
        where: the peer as `host:port`.
        peer_spki: SubjectPublicKeyInfo (DER) of the peer.
        peer_pin: the same as `sha256:<hex>`.
        peer_hello: how it introduced itself: claims, not facts. None before HELLO.
        clock_skew_s: its clock minus ours at HELLO.
        failure: why the connection ended; None as long as it stands.
    """

    def __init__(
        self,
        where: str,
        local: LocalEnd,
        admit: Admit,
        on_request: Optional[Handler] = None,
        on_ready: Optional[Callable[[LinkConnection], None]] = None,
    ) -> None:
        self.where = where
        self.on_request = on_request
        self.peer_spki = b""
        self.peer_pin = ""
        self.peer_hello: Optional[Hello] = None
        self.clock_skew_s = 0.0
        self.failure: Optional[LinkError] = None
        self._local = local
        self._limits = local.limits
        self._admit = admit
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self._outbox: Optional[Outbox] = None
        self._decoder = frames.Decoder()
        self._calls = Calls(where, self._limits.outstanding)
        self._serving = Serving(where, self._limits.outstanding, self._write, self._give_up)
        self._pulse: Optional[Pulse] = None
        self._timer: Optional[asyncio.TimerHandle] = None  # for HELLO first, for the cut at the end later
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone = asyncio.Event()

    @property
    def peer_name(self) -> str:
        """The name that the peer gives itself."""
        return self.peer_hello.name if self.peer_hello else ""

    @property
    def rtt_s(self) -> Optional[float]:
        """Seconds of the latest PING and PONG; None before the first."""
        return self._pulse.rtt_s if self._pulse else None

    @property
    def clock_agrees(self) -> bool:
        """Do both clocks agree within MAX_CLOCK_SKEW_S?"""
        return abs(self.clock_skew_s) <= MAX_CLOCK_SKEW_S

    @property
    def closed(self) -> bool:
        """Has it ended? The socket may still be open for the last words."""
        return self.failure is not None

    @property
    def outstanding(self) -> int:
        """Our requests that the peer works on."""
        return len(self._calls)

    async def request(self, message: Request, deadline_s: float) -> Answer:
        """Ask the peer and wait for its answer. May be cancelled at any time.

        Returns:
            SignOk or Deny to Sign, OfferAck to Offer.

        Raises:
            LinkError: the connection ended, no answer came in `deadline_s` seconds, the peer has too many requests or
                unread bytes already, or the message does not fit into a frame. The peer may have acted all the same.
        """
        answer = self._ask(message)
        timer = self._loop.call_later(deadline_s, self._overdue, answer, deadline_s)
        try:
            return await answer
        finally:
            timer.cancel()

    def close(self, reason: str = "it was told to stop") -> None:
        """Say GOAWAY and end; what waits gets LinkError. Further calls do nothing."""
        error = LinkError(f"the connection with {self.where} was closed at this end: {reason}")
        self._end(error, GoAwayCode.CLOSING, reason)

    def abort(self, error: LinkError) -> None:
        """End without a word to the peer."""
        self._end(error)
        if self._outbox is not None:
            self._outbox.abort()

    async def wait_ready(self) -> None:
        """Return when the peer's HELLO has come.

        Raises:
            LinkError: it never will.
        """
        await asyncio.shield(self._ready)

    async def wait_closed(self) -> None:
        """Return when the socket is closed; `failure` says why."""
        await self._gone.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Judge the peer, whose handshake is done, then introduce ourselves. Called by asyncio."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"a stream is needed, not {type(transport).__name__}")
        if self.failure is not None:
            transport.abort()
            return
        # asyncio does it for sockets that it opens itself, not for those that come from a listening one.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._outbox = Outbox(transport, self._limits.buffer_bytes)
        tls = transport.get_extra_info("ssl_object")
        try:
            self.peer_spki = self._admit(tls)
        except LinkError as error:
            ours = self._local.identity.pin
            self._end(error, GoAwayCode.NOT_REGISTERED, f"{error.message}; said by the end with the key {ours}")
            return
        self.peer_pin = spki_pin(self.peer_spki)
        self._timer = self._loop.call_later(self._limits.hello_s, self._no_hello)
        self._send(self._local.hello())

    def data_received(self, data: bytes) -> None:
        """Act on each frame that is complete. Called by asyncio."""
        if self.failure is not None:
            return
        try:
            for frame in self._decoder.feed(data):
                self._act(frame)
                if self.failure is not None:
                    return
        except WireError as error:
            self._end(
                LinkError(
                    f"{self.where} breaks the protocol: {error}", "are both ends of a release that fit together?"
                ),
                GoAwayCode.PROTOCOL,
                str(error),
            )

    def connection_lost(self, exc: Optional[Exception]) -> None:
        """Free everything. Called by asyncio."""
        self._end(self._loss(exc))
        if self._timer is not None:
            self._timer.cancel()
        self._gone.set()

    def _loss(self, exc: Optional[Exception]) -> LinkError:
        if self.peer_hello is None and not isinstance(exc, ssl.SSLError):
            # A peer that refuses our certificate looks like this, when its TLS alert did not make it here.
            hint = f"does its administrator know our key {self._local.identity.pin}?"
            return LinkError(f"{self.where} closed the connection before its HELLO", hint)
        if exc is None:
            return LinkError(f"{self.where} closed the connection")
        return connection_error(self.where, self._local.identity, exc, "the connection")

    def _act(self, frame: frames.Frame) -> None:
        if self.peer_hello is None and frame.type not in (Hello.TYPE, GoAway.TYPE):
            raise WireError(f"the first frame is of type 0x{frame.type:02x}, not HELLO")
        if not messages.ignorable(frame.type):
            message = messages.parse(frame.type, frame.rid, frame.body)
            _ACTIONS[frame.type](self, frame.rid, message)

    def _hello(self, _rid: int, hello: Hello) -> None:
        if self.peer_hello is not None:
            raise WireError("a second HELLO")
        if not hello.version_min <= VERSION <= hello.version_max:
            words = f"{self.where} speaks versions {hello.version_min} to {hello.version_max} of the protocol"
            error = LinkError(f"{words}, we speak {VERSION}", "upgrade the older of the two ends")
            self._end(error, GoAwayCode.VERSION, f"only version {VERSION} is spoken here")
            return
        if self._timer is not None:
            self._timer.cancel()
        self.peer_hello = hello
        self.clock_skew_s = hello.unix_ms / 1000 - time.time()
        if not self.clock_agrees:
            order = "ahead of" if self.clock_skew_s > 0 else "behind"
            seconds = abs(self.clock_skew_s)
            log.warning(
                "%s: its clock is %.0f s %s ours; certificates are off until both agree", self.where, seconds, order
            )
        self._pulse = Pulse(self._limits.ping_every_s, self._limits.dead_after_s, self._ping, self._no_pong)
        self._ready.set_result(None)
        if self._on_ready is not None:
            self._on_ready(self)

    def _asked(self, rid: int, message: Request) -> None:
        if self.on_request is None:
            raise WireError(f"request of type 0x{message.TYPE:02x}, but none is answered here")
        self._serving.start(self.on_request, rid, message)

    def _answered(self, rid: int, answer: Answer) -> None:
        self._calls.answered(rid, answer)

    def _pinged(self, _rid: int, ping: messages.Ping) -> None:
        self._send(messages.Pong(ping.nonce))

    def _ponged(self, _rid: int, pong: messages.Pong) -> None:
        if self._pulse is not None:
            self._pulse.pong(pong.nonce)

    def _told_to_go(self, _rid: int, farewell: GoAway) -> None:
        hint = ""
        if farewell.code == GoAwayCode.NOT_REGISTERED:
            hint = f"our key is {self._local.identity.pin}: the other end's administrator must register this pin"
        self._end(LinkError(f"{self.where} ended the connection: {farewell.reason}", hint))

    def _ask(self, message: Request) -> asyncio.Future[Answer]:
        if self.failure is not None:
            raise LinkError(self.failure.message, self.failure.hint)
        if self._outbox is None or self.peer_hello is None:
            raise LinkError(f"{self.where} has not said HELLO yet")
        answer: asyncio.Future[Answer] = self._loop.create_future()
        rid = self._calls.begin(message, answer)
        try:
            if self._outbox.put(frames.encode(message.TYPE, rid, message.body())):
                return answer
        except WireError as error:
            self._calls.forget(rid)
            raise LinkError(f"a request to {self.where} is too large: {error}") from error
        self._calls.forget(rid)
        raise LinkError(f"{self.where} does not read: {self._outbox.waiting_bytes} bytes wait for it")

    def _overdue(self, answer: asyncio.Future[Answer], deadline_s: float) -> None:
        if not answer.done():
            answer.set_exception(LinkError(f"{self.where} gave no answer within {deadline_s:g} s"))

    def _send(self, message: Message) -> None:
        self._write(frames.encode(message.TYPE, _NO_RID, message.body()))

    def _write(self, frame: bytes) -> None:
        if self._outbox is not None and self.failure is None and not self._outbox.put(frame):
            # It asks and does not take the answers: nothing that we could still say would reach it.
            self.abort(LinkError(f"{self.where} does not read: {self._outbox.waiting_bytes} bytes wait for it"))

    def _ping(self, nonce: int) -> None:
        self._send(messages.Ping(nonce))

    def _no_pong(self) -> None:
        silent_s = self._limits.dead_after_s
        hint = "host down, program stopped, or a firewall that dropped the connection"
        self.abort(LinkError(f"{self.where} gave no sign of life for {silent_s:g} s", hint))

    def _no_hello(self) -> None:
        error = LinkError(f"{self.where} sent no HELLO within {self._limits.hello_s:g} s")
        self._end(error, GoAwayCode.PROTOCOL, "no HELLO in time")

    def _give_up(self, error: LinkError) -> None:
        self._end(error, GoAwayCode.CLOSING, "a request failed inside, see the log there")

    def _end(self, error: LinkError, code: Optional[GoAwayCode] = None, farewell: str = "") -> None:
        """End once: first reason wins. The socket is cut after close_s at the latest."""
        if self.failure is not None:
            return
        if code is not None:
            self._send(GoAway(code, messages.printable(farewell)))
        self.failure = error
        if self._timer is not None:
            self._timer.cancel()
        if self._pulse is not None:
            self._pulse.stop()
        self._serving.cancel()
        self._calls.fail(error)
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # the relay's side has nobody who waits for it
        if self._outbox is not None and not self._gone.is_set():
            self._outbox.close()
            self._timer = self._loop.call_later(self._limits.close_s, self._outbox.abort)


# What to do on each type; requests and answers are told apart here and nowhere else.
_ACTIONS: dict[int, Callable[[LinkConnection, int, Any], None]] = {
    Hello.TYPE: LinkConnection._hello,
    messages.Offer.TYPE: LinkConnection._asked,
    messages.OfferAck.TYPE: LinkConnection._answered,
    messages.Sign.TYPE: LinkConnection._asked,
    messages.SignOk.TYPE: LinkConnection._answered,
    messages.Deny.TYPE: LinkConnection._answered,
    messages.Ping.TYPE: LinkConnection._pinged,
    messages.Pong.TYPE: LinkConnection._ponged,
    GoAway.TYPE: LinkConnection._told_to_go,
}
