# SPDX-License-Identifier: Apache-2.0
"""The peer's requests that we have not answered yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from glideinwms_bosco.errors import BoscoError, LinkError, WireError
from glideinwms_bosco.link import frames
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import ANSWERS, Answer, Deny, Request

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[Answer]]
"""Answers one request of the peer: Sign at the broker, Offer at the relay."""

_FAILED = Deny(DenyCode.INTERNAL, "the request failed inside, see the log there")


class Serving:
    """Runs a handler for each request and sends what it returns.

    Args:
        where: the peer, for messages.
        most: requests at work at once.
        send: takes an encoded frame.
        give_up: ends the connection; for a failed request that has no form of refusal.
    """

    def __init__(
        self, where: str, most: int, send: Callable[[bytes], None], give_up: Callable[[LinkError], None]
    ) -> None:
        self._where = where
        self._most = most
        self._send = send
        self._give_up = give_up
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, handler: Handler, rid: int, message: Request) -> None:
        """Begin work on a request.

        Raises:
            WireError: its number is in use, or there are too many.
        """
        if rid == 0 or rid in self._tasks:
            raise WireError(f"request number {rid} is not free")
        if len(self._tasks) >= self._most:
            raise WireError(f"more than {self._most} requests at once")
        self._tasks[rid] = asyncio.get_running_loop().create_task(self._serve(handler, rid, message))

    def cancel(self) -> None:
        """End all work."""
        for task in tuple(self._tasks.values()):
            task.cancel()

    async def _serve(self, handler: Handler, rid: int, message: Request) -> None:
        try:
            frame = await _answer(handler, rid, message)
        except Exception as error:  # the edge of a handler: the peer must get an answer, the log its reason
            if isinstance(error, BoscoError):
                log.error("%s: a request failed: %s", self._where, error)
            else:
                log.exception("%s: a request failed", self._where)
            if Deny.TYPE not in ANSWERS[message.TYPE]:
                self._give_up(LinkError(f"a request of {self._where} failed here: {error}"))
                return
            frame = frames.encode(Deny.TYPE, rid, _FAILED.body())
        finally:
            del self._tasks[rid]
        self._send(frame)


async def _answer(handler: Handler, rid: int, message: Request) -> bytes:
    answer = await handler(message)
    if answer.TYPE not in ANSWERS[message.TYPE]:
        raise LinkError(f"a request of type 0x{message.TYPE:02x} was to be answered with 0x{answer.TYPE:02x}")
    return frames.encode(answer.TYPE, rid, answer.body())
