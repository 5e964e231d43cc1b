# SPDX-License-Identifier: Apache-2.0
"""Keep a connection to one factory's relay and tell it, at each change, which handles it may use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Optional, Union

from glideinwms_bosco.broker.answers import Asker
from glideinwms_bosco.broker.policy_model import Factory
from glideinwms_bosco.errors import LinkError
from glideinwms_bosco.link.backoff import LONGEST_S, Backoff
from glideinwms_bosco.link.connection import LinkConnection, dial
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.link.messages import Deny, Offer, OfferAck, OfferItem, Sign, SignOk
from glideinwms_bosco.link.tls import Identity

LOG = logging.getLogger("gwms-ssh-broker")

OFFER_DEADLINE_S = 30.0
CLOSE_S = 3.0
"""For the last words on a connection."""
QUICK_RETURNS = 10
"""So many links in a row may end within a minute and be dialled again at once; a relay is restarted that often, say."""

Answer = Callable[[Asker, Sign], Awaitable[Union[SignOk, Deny]]]
Items = Callable[[str, bool], tuple[OfferItem, ...]]
"""Takes a factory's name and whether it may be given certificates."""


@dataclass
class FactoryState:
    """How it stands with one factory.

    Attributes:
        up: connected.
        since: unix seconds of the last change of `up`.
        trouble: why there is no connection.
        offered: number of handles in the last offer.
        refused: handle -> reason, of handles that the relay does not serve.
    """

    up: bool = False
    since: float = field(default_factory=time.time)
    trouble: str = "not connected yet"
    peer: str = ""
    rtt_s: Optional[float] = None
    clock_skew_s: float = 0.0
    offered: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class Dialer:
    """Connects to one factory, for ever.

    Args:
        name: how this broker calls itself there.
        answer: answers the relay's requests.
        items: what to offer now.
        changed: called when `state` has changed.
    """

    def __init__(
        self, factory: Factory, identity: Identity, name: str, answer: Answer, items: Items, changed: Callable[[], None]
    ) -> None:
        self.state = FactoryState()
        self._factory = factory
        self._identity = identity
        self._name = name
        self._answer = answer
        self._items = items
        self._changed = changed
        self._offer_again = asyncio.Event()
        self._offer_taken = False
        self._generation = 0

    def offer_again(self) -> None:
        """What is offered may have changed."""
        self._offer_again.set()

    async def run(self) -> None:
        """Connect, offer, answer; again with growing delays whenever the connection ends. Until cancelled."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        quick_returns = 0
        while True:
            began = loop.time()
            self._offer_taken = False
            try:
                connection = await dial(
                    self._factory.relay_host,
                    self._factory.relay_port,
                    self._identity,
                    self._factory.pins,
                    name=self._name,
                    on_connection=self._serve,
                )
            except LinkError as err:
                self._is_down(str(err))
            else:
                await self._use(connection)
            quick_returns = 0 if loop.time() - began > LONGEST_S else quick_returns + self._offer_taken
            if self._offer_taken and quick_returns <= QUICK_RETURNS:
                # The relay was good and went away: it is restarted. One that takes each link and drops it is not good.
                backoff.reset()
            await asyncio.sleep(backoff.next_delay_s())

    def _serve(self, connection: LinkConnection) -> None:
        connection.on_request = lambda request: self._answer(Asker(connection.peer_pin, connection.where), request)

    async def _use(self, connection: LinkConnection) -> None:
        """Stay with one connection to its end."""
        self.state.up, self.state.trouble, self.state.since = True, "", time.time()
        self.state.peer, self.state.clock_skew_s = connection.peer_name, connection.clock_skew_s
        LOG.info("%s: connected to %s", self._factory.name, connection.where)
        self._changed()
        offering = asyncio.get_running_loop().create_task(self._keep_offering(connection))
        # Only a defect ends it; a link that offers nothing would look as if all were well.
        offering.add_done_callback(lambda _: connection.close("the broker stops"))
        try:
            await connection.wait_closed()
            self._is_down(str(connection.failure or "the connection has ended"))
            if offering.done():
                offering.result()
        finally:
            offering.cancel()
            await asyncio.gather(offering, return_exceptions=True)
            connection.close("the broker stops")
            # The relay should read why; but not for longer than a stop may take.
            with contextlib.suppress(asyncio.TimeoutError):
                await bounded(CLOSE_S, connection.wait_closed())

    async def _keep_offering(self, connection: LinkConnection) -> None:
        last: Optional[tuple[OfferItem, ...]] = None
        while True:
            self._offer_again.clear()
            items = self._items(self._factory.name, connection.clock_agrees)
            if items != last:
                last = items if await self._offer(connection, items) else None
            self.state.rtt_s = connection.rtt_s
            await self._offer_again.wait()

    async def _offer(self, connection: LinkConnection, items: tuple[OfferItem, ...]) -> bool:
        self._generation += 1
        try:
            ack = await connection.request(Offer(self._generation, items), OFFER_DEADLINE_S)
        except LinkError as err:
            # A relay that takes no offer is of no use; the next connection may find it better.
            LOG.error("%s: offer not taken: %s", self._factory.name, err)
            connection.close("the offer was not answered")
            return False
        if isinstance(ack, OfferAck):
            self._offer_taken = True
            names = {item.handle: item.comment for item in items}
            refused = {result.handle: result.reason or f"code {result.code}" for result in ack.results if result.code}
            for handle in refused.keys() - self.state.refused.keys():
                where = f"{names.get(handle, handle)} ({handle})"
                LOG.warning("%s: its relay does not serve %s: %s", self._factory.name, where, refused[handle])
            self.state.offered, self.state.refused = len(items), refused
            self._changed()
        return True

    def _is_down(self, trouble: str) -> None:
        if self.state.up or trouble != self.state.trouble:
            LOG.warning("%s: %s", self._factory.name, trouble)
            if self.state.up:
                self.state.since = time.time()
            self.state.up, self.state.trouble = False, trouble
            self.state.offered, self.state.refused = 0, {}
            self._changed()
