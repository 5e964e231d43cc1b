# SPDX-License-Identifier: Apache-2.0
"""The relay as a daemon: brokers dial in, offer handles, and sign what the ssh of the factory's user asks for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Optional, TypeVar

from glideinwms_bosco.errors import LinkError, RelayError
from glideinwms_bosco.link.channel import LinkConnection
from glideinwms_bosco.link.connection import Server, listen
from glideinwms_bosco.link.deadline import bounded
from glideinwms_bosco.link.deny import DenyCode
from glideinwms_bosco.link.messages import Answer, Deny, Offer, OfferAck, OfferResult, Request
from glideinwms_bosco.link.tls import Identity, load_identity, make_identity
from glideinwms_bosco.relay.agent_server import Backend
from glideinwms_bosco.relay.client_conf import ClientSettings, sends_session_bind
from glideinwms_bosco.relay.conf import RelayConf
from glideinwms_bosco.relay.places import Places
from glideinwms_bosco.relay.registry import Registry
from glideinwms_bosco.relay.siblings import with_siblings
from glideinwms_bosco.relay.signing import Signing
from glideinwms_bosco.relay.socket_folder import SocketFolder

NAME = "gwms-ssh-relay"
STATUS_EVERY_S = 10.0
"""status.json is written at each change and at least this often: an older one says that the daemon is gone."""
# Several changes at once make one write.
STATUS_SETTLE_S = 0.05
SSH_VERSION_S = 10.0
MAX_OFFERS_HELD = 2
"""Of one connection, each some MiB: an honest broker sends the next when the last one is answered."""
OFFER_SHARE = 0.5
"""Most of the relay's time that one broker's offers may take: it waits for the next as long as the last one took."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


def identity_files(conf: RelayConf) -> Identity:
    """The relay's identity.

    Raises:
        LinkError: it cannot be read.
    """
    base = conf.identity
    return load_identity(base.with_name(base.name + ".crt"), base.with_name(base.name + ".key"))


def new_identity(conf: RelayConf) -> Identity:
    """Make the relay's key and certificate where relay.conf names them.

    Raises:
        RelayError: there is one already, or the folder cannot be written.
    """
    try:
        return make_identity(conf.identity.parent, conf.identity.name)
    except LinkError as err:
        raise RelayError(err.message, err.hint) from None


def ssh_version(ssh: Path) -> str:
    """What `ssh -V` says.

    Raises:
        RelayError: the client cannot be run.
    """
    try:
        done = subprocess.run([str(ssh), "-V"], capture_output=True, text=True, timeout=SSH_VERSION_S, check=True)
    except (OSError, subprocess.SubprocessError) as err:
        raise RelayError(f"{ssh} -V does not run: {err}", "name the ssh client in relay.conf") from None
    return done.stderr.strip() or done.stdout.strip()


def client_settings(conf: RelayConf) -> ClientSettings:
    """What every handle's ssh configuration has in common on this host.

    Raises:
        RelayError: the ssh client cannot be run.
    """
    tap = conf.tap == "always" or (conf.tap == "auto" and not sends_session_bind(ssh_version(conf.ssh)))
    return ClientSettings(conf.socket_dir, conf.ssh_include, conf.tap_program if tap else None)


class Relay:
    """The daemon's parts, wired together. `start` and `stop` are called once each, in one event loop.

    Raises:
        LinkError: the identity cannot be read.
        RelayError: a user, group or ssh client of relay.conf is not there.
    """

    def __init__(self, conf: RelayConf) -> None:
        self._conf = conf
        self._identity = identity_files(conf)
        self._settings = client_settings(conf)
        self._started = time.time()
        self._allowed = conf.allowed_uids()
        self._registry = Registry(conf.brokers, self._started)
        self._places = Places()
        self._signing = Signing(self._registry, conf.sign_deadline_s)
        backend = Backend(self._signing.wait_up, self._signing.sign, self._registry.status, self._allows, self._places)
        self._folder = SocketFolder(self._settings, conf.socket_gid(), backend)
        self._server: Optional[Server] = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._offering: dict[str, asyncio.Lock] = {}
        self._offer_after: dict[str, float] = {}
        self._offers_held: Counter[LinkConnection] = Counter()
        self._changed = asyncio.Event()

    @property
    def port(self) -> int:
        """The port brokers dial; useful when relay.conf's port was free to choose."""
        return self._server.port if self._server else 0

    async def start(self) -> None:
        """Make the socket folder and listen.

        Raises:
            RelayError: the folder cannot be used.
            LinkError: address or identity cannot be used.
        """
        self._folder.prepare()
        conf = self._conf
        self._server = await listen(
            conf.listen, conf.port, self._identity, self._registry.known, self._connected, name=NAME
        )
        self._write_status()
        self._spawn(self._keep_status())
        _log.info("listening on %s port %d, pin %s", conf.listen, self.port, self._identity.pin)

    async def stop(self) -> None:
        """Close every connection and socket, and remove the files."""
        await self._cancel_tasks()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        # Offers that came while the connections were closed would make sockets again.
        await self._cancel_tasks()
        await self._folder.close()

    async def _cancel_tasks(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reload(self, conf: RelayConf) -> None:
        """Take brokers, credential paths and allowed users of a new relay.conf; the rest needs a restart.

        Raises:
            RelayError: a user is not known on this host; nothing has changed.
        """
        self._allowed = conf.allowed_uids()
        for side in self._registry.configure(conf.brokers, time.time()):
            if side.connection is not None:
                side.connection.close("not in relay.conf any more")
            async with self._lock(side.pin):
                await self._folder.remove(side.handles)
        self._changed.set()
        _log.info("relay.conf was read again: %d brokers", len(conf.brokers))

    def status(self) -> dict[str, Any]:
        """The content of status.json."""
        brokers = [{**row, "connections": self._places.of_broker(row["pin"])} for row in self._registry.broker_status()]
        handles = []
        for handle in sorted(self._registry.handles()):
            row = self._registry.status(handle) or {}
            handles.append({**row, "connections": self._places.of_handle(handle)})
        return {
            "version": 1,
            "pid": os.getpid(),
            "started": int(self._started),
            "updated": int(time.time()),
            "listen": self._conf.listen,
            "port": self.port,
            "pin": self._identity.pin,
            "tap": self._settings.tap_program is not None,
            "connections": self._places.taken,
            "brokers": brokers,
            "handles": handles,
        }

    def _allows(self, uid: int) -> bool:
        return uid in self._allowed

    def _write_status(self) -> None:
        self._folder.write_status(self.status())

    async def _keep_status(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await bounded(STATUS_EVERY_S, self._changed.wait())
                await asyncio.sleep(STATUS_SETTLE_S)
            self._changed.clear()
            self._write_status()

    def _connected(self, connection: LinkConnection) -> None:
        """Called at a peer's HELLO, before any further frame of it is looked at."""
        connection.on_request = self._handler(connection)
        try:
            before = self._registry.connected(connection, time.time())
        except RelayError as err:
            connection.close(err.message)
            return
        if before is not None:
            before.close("replaced by a newer connection of the same broker")
        _log.info("broker %s (%s) is here, pin %s", connection.peer_name, connection.where, connection.peer_pin)
        self._spawn(self._watch(connection))
        self._signing.broker_came()
        self._changed.set()

    async def _watch(self, connection: LinkConnection) -> None:
        await connection.wait_closed()
        if self._registry.lost(connection, time.time()):
            why = connection.failure or LinkError("closed")
            _log.warning("broker %s (%s) is gone: %s", connection.peer_name, connection.where, why)
            self._changed.set()

    def _handler(self, connection: LinkConnection) -> Callable[[Request], Awaitable[Answer]]:
        async def answer(request: Request) -> Answer:
            if not isinstance(request, Offer):
                return Deny(DenyCode.MALFORMED, "a relay signs nothing")
            # To its end also when the link breaks meanwhile: half an offer would leave sockets that nobody removes.
            return await asyncio.shield(self._spawn(self._take_offer(connection, request)))

        return answer

    def _lock(self, pin: str) -> asyncio.Lock:
        """One offer of a broker at a time; brokers do not wait for each other."""
        return self._offering.setdefault(pin, asyncio.Lock())

    async def _take_offer(self, connection: LinkConnection, offer: Offer) -> OfferAck:
        loop, pin = asyncio.get_running_loop(), connection.peer_pin
        if self._offers_held[connection] >= MAX_OFFERS_HELD:
            raise LinkError(f"{connection.peer_name} sends offers without waiting for their answers")
        self._offers_held[connection] += 1
        try:
            async with self._lock(pin):
                await asyncio.sleep(self._offer_after.get(pin, 0.0) - loop.time())
                began = loop.time()
                try:
                    return await self._offered(connection, offer)
                finally:
                    self._offer_after[pin] = loop.time() + (loop.time() - began) * (1 / OFFER_SHARE - 1)
        finally:
            self._offers_held[connection] -= 1
            if not self._offers_held[connection]:
                del self._offers_held[connection]

    async def _offered(self, connection: LinkConnection, offer: Offer) -> OfferAck:
        change = self._registry.offered(connection, offer)
        for result in change.results:
            if result.code:
                _log.warning("handle %s of %s: %d %s", result.handle, connection.peer_name, result.code, result.reason)
        side = self._registry.sides[connection.peer_pin]
        failed = await self._folder.serve(with_siblings(side.handles.values()))
        await self._folder.remove(change.removed)
        self._changed.set()
        _log.info("broker %s offers %d handles", connection.peer_name, len(side.handles))
        results = (
            OfferResult(result.handle, DenyCode.INTERNAL, failed[result.handle]) if result.handle in failed else result
            for result in change.results
        )
        return OfferAck.fitting(results)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
