# SPDX-License-Identifier: Apache-2.0
"""Answer a factory's request: decide, write the record, sign. In this order, and nothing leaves without its record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from glideinwms_bosco.broker.audit_record import deny_record, sign_record
from glideinwms_bosco.broker.certified import Certified
from glideinwms_bosco.broker.decision import Allowed, decide
from glideinwms_bosco.broker.keyring import KeyRing
from glideinwms_bosco.broker.memory import SessionMemory
from glideinwms_bosco.broker.policy_model import Handle, KeyedPolicy
from glideinwms_bosco.broker.rate import RateLimits, RefusalLines
from glideinwms_bosco.errors import AuditError, KeyBackendError
from glideinwms_bosco.link.deadline import within
from glideinwms_bosco.link.deny import Denied, DenyCode
from glideinwms_bosco.link.messages import Deny, Sign, SignOk
from glideinwms_bosco.sshwire.handle import MAINTAIN

LOG = logging.getLogger("gwms-ssh-broker")

SIGN_DEADLINE_S = 13.0
"""Whatever a backend does meanwhile, the relay has our answer before it gives up (15 s)."""
RETRY_S = 30
"""After which a factory may ask again when a key or the log was not usable."""

Append = Callable[[Mapping[str, Any]], object]
"""Writes a record into the audit log. Raises AuditError."""


@dataclass(frozen=True)
class Asker:
    """Who asks: pin of the connection's TLS key, and its address."""

    pin: str
    address: str


class Answers:
    """Answers requests of all factories.

    Attributes:
        keyed: the policy that counts now.
        signed, denied: how many requests ended so.

    Args:
        append: the audit log.
        read_opened: entry name -> unix seconds until which maintenance is open.
    """

    def __init__(
        self,
        keyed: KeyedPolicy,
        ring: KeyRing,
        certified: Certified,
        append: Append,
        read_opened: Callable[[], Mapping[str, float]],
    ) -> None:
        self.keyed = keyed
        self.signed = 0
        self.denied = 0
        self._ring = ring
        self._certified = certified
        self._append = append
        self._read_opened = read_opened
        self._memory = SessionMemory()
        self._rates = RateLimits()
        self._refusal_lines = RefusalLines()

    def use(self, keyed: KeyedPolicy) -> None:
        """Decide by another policy from now on; what was used up of a rate stays used up."""
        self.keyed = keyed
        self._rates.keep_only(keyed.handles)

    async def answer(self, asker: Asker, request: Sign) -> Union[SignOk, Deny]:
        """Answer one request; a refusal is an answer, too."""
        done = await self._sign(asker, request)
        if isinstance(done, Denied):
            self.denied += 1
            return Deny(int(done.code), done.reason, done.retry_after_s)
        self.signed += 1
        return done

    def _decide(self, asker: Asker, request: Sign) -> Union[Allowed, Denied]:
        handle = self.keyed.handles.get(request.handle)
        # A file is read only for what can be opened: submit handles are asked for by the thousand.
        opened = self._read_opened() if handle is not None and handle.purpose == MAINTAIN else {}
        certificates = self._certified.by_handle()
        return decide(self.keyed, request, asker.pin, time.time(), self._memory, self._rates, opened, certificates)

    async def _sign(self, asker: Asker, request: Sign) -> Union[SignOk, Denied]:
        decided = self._decide(asker, request)
        if isinstance(decided, Denied):
            self._record_refusal(decided, asker, request)
            return decided
        record = sign_record(decided, request, asker.pin, asker.address)
        refused = self._record(record)
        if refused is not None:
            return refused
        try:
            signature = await self._signature(decided)
        except KeyBackendError as err:
            LOG.error("%s: no signature: %s", decided.handle.entry.name, err)
            # The record above says that a signature was allowed; this one, that none left.
            self._record({**record, "event": "sign-failed"})
            return _key_unusable(decided.handle)
        return SignOk(signature)

    async def _signature(self, allowed: Allowed) -> bytes:
        backend = self._ring.backend(allowed.handle.entry.key)
        if backend is None:
            raise KeyBackendError("its key is not loaded")
        try:
            return await within(SIGN_DEADLINE_S, backend.sign(allowed.data, allowed.flags, allowed.key))
        except asyncio.TimeoutError:
            raise KeyBackendError(f"its key's backend has not signed within {SIGN_DEADLINE_S:g} s") from None

    def _record(self, record: Mapping[str, Any]) -> Optional[Denied]:
        try:
            self._append(record)
        except AuditError as err:
            LOG.error("%s", err)
            return Denied(DenyCode.INTERNAL, "the broker cannot write its audit log", RETRY_S)
        return None

    def _record_refusal(self, denied: Denied, asker: Asker, request: Sign) -> None:
        left_out = self._refusal_lines.admit(asker.pin, time.time())
        if left_out is not None:
            self._record(deny_record(denied, request, self.keyed, asker.pin, asker.address, left_out))


def _key_unusable(handle: Handle) -> Denied:
    # Why is for our own log: paths of the frontend's host are none of the factory's business.
    reason = f"the key of {handle.entry.name} cannot be used now; the frontend's log says why"
    return Denied(DenyCode.INTERNAL, reason, RETRY_S)
