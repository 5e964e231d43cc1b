# SPDX-License-Identifier: Apache-2.0
"""Get one signature from the right broker before a deadline, whatever the link does meanwhile.

A broker that is away is waited for; a request that was out when the link broke is sent again, which the protocol makes
harmless (same handle, session id and data: same answer). Each broker has a quota of its own, so that a slow one takes
no place from another.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Optional

from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.channel import LinkConnection
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Deny, Sign, SignOk
from glideinwms_bosco.relay.registry import BrokerSide, Registry
from glideinwms_bosco.sshwire.agent import MAX_SIGNATURE_BYTES

MAX_OUTSTANDING = 256
"""Signatures per broker that may wait at the same time."""
# A link that fails at once and is not noticed as lost must not be asked in a tight loop.
RETRY_S = 0.1

_log = logging.getLogger(__name__)


class Signing:
    """Sends signature requests to the brokers.

    Args:
        deadline_s: seconds for one signature, waiting for the broker included.
    """

    def __init__(self, registry: Registry, deadline_s: float) -> None:
        self._registry = registry
        self.deadline_s = deadline_s
        self._came = asyncio.Event()

    def broker_came(self) -> None:
        """Wake those who wait for a broker: one has connected."""
        self._came.set()
        self._came = asyncio.Event()

    async def wait_up(self, handle: str) -> bool:
        """Wait until the broker of a handle is connected, at most `deadline_s`; return whether it is."""
        side = self._registry.side_of(handle)
        if side is None:
            return False
        if side.up:
            return True
        if not self._take(side):
            return False
        try:
            if await self._up(side, asyncio.get_running_loop().time() + self.deadline_s):
                return True
        finally:
            side.outstanding -= 1
        self._away(handle, side)
        return False

    async def sign(self, request: Sign) -> Optional[bytes]:
        """Ask for a signature; return the ssh signature blob, or None with the reason kept in the registry."""
        side = self._registry.side_of(request.handle)
        if side is None:
            return None
        if not self._take(side):
            busy = f"{MAX_OUTSTANDING} signatures of this broker are waiting already"
            self._note(request.handle, Denied(DenyCode.RATE, busy, int(self.deadline_s)))
            return None
        try:
            return await self._sign(request, side)
        finally:
            side.outstanding -= 1

    @staticmethod
    def _take(side: BrokerSide) -> bool:
        if side.outstanding >= MAX_OUTSTANDING:
            return False
        side.outstanding += 1
        return True

    async def _up(self, side: BrokerSide, ends_at: float) -> Optional[LinkConnection]:
        loop = asyncio.get_running_loop()
        while side.connection is None:
            left = ends_at - loop.time()
            if left <= 0:
                return None
            try:
                await bounded(left, self._came.wait())
            except asyncio.TimeoutError:
                return None
        return side.connection

    async def _sign(self, request: Sign, side: BrokerSide) -> Optional[bytes]:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.deadline_s
        while True:
            link = await self._up(side, ends_at)
            left = ends_at - loop.time()
            if link is None or left <= 0:
                self._away(request.handle, side)
                return None
            try:
                answer = await link.request(request, left)
            except LinkError as err:
                _log.warning("broker %s, handle %s: %s", side.conf.name, request.handle, err)
                await asyncio.sleep(min(RETRY_S, max(0.0, ends_at - loop.time())))
                continue
            return self._answered(request.handle, answer)

    def _answered(self, handle: str, answer: object) -> Optional[bytes]:
        if isinstance(answer, SignOk):
            if 0 < len(answer.signature) <= MAX_SIGNATURE_BYTES:
                return answer.signature
            self._note(handle, Denied(DenyCode.INTERNAL, f"signature of {len(answer.signature)} bytes"))
        if isinstance(answer, Deny):
            # The number may be one that only a newer broker knows.
            known = answer.code in DenyCode.__members__.values()
            code = DenyCode(answer.code) if known else DenyCode.INTERNAL
            self._note(handle, Denied(code, answer.reason, answer.retry_after_s))
        return None

    def _away(self, handle: str, side: BrokerSide) -> None:
        what = "does not answer" if side.up else "is not connected"
        remedy = "the frontend's administrator looks at gwms-ssh-broker"
        reason = f"the broker {what}; waited {self.deadline_s:g} s; {remedy}"
        self._note(handle, Denied(DenyCode.UNAVAILABLE, reason, int(self.deadline_s)))

    def _note(self, handle: str, denied: Denied) -> None:
        _log.warning("handle %s refused: %d %s", handle, denied.code, denied.reason)
        self._registry.denied(handle, denied, time.time())
