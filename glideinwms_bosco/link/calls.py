# SPDX-License-Identifier: Apache-2.0
"""Our requests that the peer has not answered yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from glideinwms_bosco.errors import LinkError, WireError
from glideinwms_bosco.link.messages import ANSWERS, Answer, Offer, Request
from glideinwms_bosco.sshwire.primitives import UINT32_MAX


@dataclass
class _Call:
    """`answer` is done already for a request whose asker did not wait; the peer still works on it."""

    answers: tuple[int, ...]
    answer: asyncio.Future[Answer]


class Calls:
    """Numbers requests and brings answers to who waits for them.

    A request whose asker has gone keeps its number and its place until the answer comes: the peer counts it too, and
    would take the number used again for a protocol error.

    Args:
        where: the peer, for messages.
        most: requests unanswered at once.
    """

    def __init__(self, where: str, most: int) -> None:
        self._where = where
        self._most = most
        self._calls: dict[int, _Call] = {}
        self._last_rid = 0

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, message: Request, answer: asyncio.Future[Answer]) -> int:
        """Give a request its number.

        Raises:
            LinkError: too many are unanswered, or an offer's generation is not free.
        """
        if len(self._calls) >= self._most:
            raise LinkError(f"{self._where} has {len(self._calls)} requests to answer, no further one is sent")
        if isinstance(message, Offer):
            rid = message.generation
            if not 1 <= rid <= UINT32_MAX or rid in self._calls:
                raise LinkError(f"an offer of generation {rid} cannot be sent to {self._where}", "count up from 1")
        else:
            rid = self._free_rid()
        self._calls[rid] = _Call(ANSWERS[message.TYPE], answer)
        return rid

    def _free_rid(self) -> int:
        rid = self._last_rid
        while True:
            rid = rid % UINT32_MAX + 1
            if rid not in self._calls:
                self._last_rid = rid
                return rid

    def forget(self, rid: int) -> None:
        """Undo `begin` of a request that was not sent."""
        del self._calls[rid]

    def answered(self, rid: int, message: Answer) -> None:
        """Hand over an answer.

        Raises:
            WireError: nothing of that number was asked, or not this kind of thing.
        """
        call = self._calls.get(rid)
        if call is None:
            raise WireError(f"answer to request {rid}, which was not asked")
        if message.TYPE not in call.answers:
            raise WireError(f"answer of type 0x{message.TYPE:02x} does not fit request {rid}")
        del self._calls[rid]
        if not call.answer.done():
            call.answer.set_result(message)

    def fail(self, error: LinkError) -> None:
        """End all waiting; each asker gets an error of its own, as a traceback is written into it."""
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.answer.done():
                call.answer.set_exception(LinkError(error.message, error.hint))
