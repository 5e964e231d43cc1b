# SPDX-License-Identifier: Apache-2.0
"""The daemon: policy, keys and factories brought together, and kept together through reloads.

Nothing here waits for a key: a backend that does not start, or hangs, is that entry's trouble alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Coroutine
from typing import Any, Optional

from glideinwms_bosco.broker.answers import Answers
from glideinwms_bosco.broker.audit import AuditLog
from glideinwms_bosco.broker.audit_head import HeadSigner
from glideinwms_bosco.broker.backends.agent_process import private_folder
from glideinwms_bosco.broker.backends.make import make_backend
from glideinwms_bosco.broker.certified import Certified
from glideinwms_bosco.broker.dialer import Dialer
from glideinwms_bosco.broker.keyring import KeyRing, Make
from glideinwms_bosco.broker.offers import offer_items
from glideinwms_bosco.broker.opened import read_opened
from glideinwms_bosco.broker.paths import BrokerPaths
from glideinwms_bosco.broker.policy import load_policy
from glideinwms_bosco.broker.policy_model import Factory, KeyedPolicy, Policy
from glideinwms_bosco.broker.process import PidFile
from glideinwms_bosco.broker.seen_keys import SeenKeys
from glideinwms_bosco.broker.status_file import EVERY_S, DaemonState, status_content, write_status
from glideinwms_bosco.errors import AuditError, BrokerError, PolicyFileError
from glideinwms_bosco.link.messages import OfferItem
from glideinwms_bosco.link.tls import load_identity

LOG = logging.getLogger("gwms-ssh-broker")

TICK_S = 0.5
"""How soon a key that was loaded, or a certificate that is due, is noticed."""


class Broker:
    """One broker, from `run` to its end.

    Args:
        make: makes key backends.

    Raises:
        BrokerError: another broker runs here, or policy, identity or audit log cannot be used.
        LinkError: the identity cannot be read.
    """

    def __init__(self, paths: BrokerPaths, make: Make = make_backend) -> None:
        self._paths = paths
        self._identity = load_identity(paths.certificate, paths.key)
        self._policy = load_policy(paths.policy)
        self._started = time.time()
        self._stop = asyncio.Event()
        self._failure: Optional[BaseException] = None
        self._status_due = True
        self._reload_due = False
        self._reloads = 0
        self._policy_trouble = ""
        self._dialers: dict[Factory, tuple[Dialer, asyncio.Task[None]]] = {}
        self._pid_file = PidFile(paths.pid)
        try:
            self._audit = AuditLog(paths.log_dir, time.time, LOG.info, HeadSigner(paths.key))
            shutil.rmtree(paths.run_dir, ignore_errors=True)
            self._ring = KeyRing(private_folder(paths.run_dir) / "keys", make, SeenKeys(paths.state_dir))
        except BaseException:
            self._pid_file.release()
            raise
        self._certified = Certified(paths.run_dir / "certificates", self._ring)
        self._answers = Answers(
            KeyedPolicy(self._policy, {}),
            self._ring,
            self._certified,
            self._audit.append,
            lambda: read_opened(paths.state_dir),
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the policy.

        Raises:
            BoscoError: it cannot begin, or cannot go on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        tasks = [self._guarded(self._audit.run()), self._guarded(self._tick())]
        try:
            self._ring.use(self._policy)
            self._rekey(self._policy)
            self._audit.append({"event": "start", "policy_sha256": self._policy.digest, "broker": self._identity.pin})
            self._dial()
            LOG.info("broker %s with %d entries", self._identity.pin, len(self._policy.entries))
            await self._stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            await self._end(tasks)
        if self._failure is not None:
            raise self._failure

    @property
    def keys_tried(self) -> bool:
        """Whether each key was loaded, or could not be."""
        return not self._ring.starting

    def stop(self) -> None:
        """End it, as SIGTERM does."""
        self._stop.set()

    def _reload_soon(self) -> None:
        """Once for all the signals that have come meanwhile: a script may edit the policy a hundred times."""
        if not self._reload_due:
            self._reload_due = True
            asyncio.get_running_loop().call_soon(self.reload)

    def reload(self) -> None:
        """Use the policy file as it is now; a file with problems changes nothing."""
        self._reload_due = False
        self._reloads += 1
        try:
            policy = load_policy(self._paths.policy)
            # Before a key is let go: what is known already must fit the new policy.
            policy.keyed(self._identity.spki_der, self._ring.public_keys(policy))
            self._ring.use(policy)
            self._rekey(policy)
        except PolicyFileError as err:
            for problem in err.problems:
                LOG.error("%s", problem)
            LOG.error("the policy in use stays in use (%d entries)", len(self._policy.entries))
            self._policy_trouble = "; ".join(str(problem) for problem in err.problems)
            self._ring.use(self._policy)
            self._status_due = True
            return
        self._policy_trouble = ""
        LOG.info("policy reloaded: %d entries, %d factories", len(policy.entries), len(policy.factories))
        with contextlib.suppress(AuditError):
            self._audit.append({"event": "policy", "policy_sha256": policy.digest})
        self._dial()

    def _rekey(self, policy: Policy) -> None:
        """Decide by a policy, with the keys that are known now, and tell the factories.

        Raises:
            PolicyFileError: two entries have the same key.
        """
        keys = self._ring.public_keys(policy)
        keyed = policy.keyed(self._identity.spki_der, keys, self._ring.earlier_keys(policy))
        self._certified.adopt(keyed, time.time())
        self._answers.use(keyed)
        self._ring.learn(policy, keys)
        self._policy = policy
        self._status_due = True
        for dialer, _ in self._dialers.values():
            dialer.offer_again()

    def _dial(self) -> None:
        """Have one dialer for each factory of the policy; one whose address or pins changed is a new one."""
        wanted = set(self._policy.factories.values())
        for factory in [factory for factory in self._dialers if factory not in wanted]:
            # It says GOAWAY and ends by itself.
            self._dialers.pop(factory)[1].cancel()
        for factory in self._policy.factories.values():
            if factory not in self._dialers:
                name = socket.gethostname()
                dialer = Dialer(factory, self._identity, name, self._answers.answer, self._items, self._note_change)
                self._dialers[factory] = dialer, self._guarded(dialer.run())

    def _items(self, factory: str, certificates: bool) -> tuple[OfferItem, ...]:
        keyed = self._answers.keyed
        return offer_items(keyed, factory, self._certified, time.time(), certificates=certificates)

    def _note_change(self) -> None:
        self._status_due = True

    def _guarded(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that never ends; if it does, the whole broker ends and says why."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()
            self._stop.set()

    async def _tick(self) -> None:
        """Notice keys that came, certificates that are due, and write the status."""
        loop = asyncio.get_running_loop()
        known, starting = self._ring.public_keys(self._policy), self._ring.starting
        renewal: Optional[asyncio.Task[None]] = None
        next_status = 0.0
        while True:
            await asyncio.sleep(TICK_S)
            found = self._ring.public_keys(self._policy)
            if found != known:
                known = found
                self._use_found_keys()
            if self._ring.starting != starting:
                # Whoever has changed a key waits for what came of it.
                starting = self._ring.starting
                self._status_due = True
            if renewal is None or renewal.done():
                # Not waited for: a CA's token may take its time.
                renewal = self._guarded(self._renew())
            if self._status_due or loop.time() >= next_status:
                self._status_due, next_status = False, loop.time() + EVERY_S
                await self._write_status()

    def _use_found_keys(self) -> None:
        try:
            self._rekey(self._policy)
        except PolicyFileError as err:
            for problem in err.problems:
                LOG.error("%s", problem)
            self._policy_trouble = "; ".join(str(problem) for problem in err.problems)

    async def _renew(self) -> None:
        if await self._certified.renew(self._answers.keyed, time.time()):
            for dialer, _ in self._dialers.values():
                dialer.offer_again()

    async def _write_status(self) -> None:
        state = DaemonState(
            pid=os.getpid(),
            started=self._started,
            pin=self._identity.pin,
            keyed=self._answers.keyed,
            reloads=self._reloads,
            policy_trouble=self._policy_trouble,
            ring=self._ring,
            factories={factory.name: dialer.state for factory, (dialer, _) in self._dialers.items()},
            opened=read_opened(self._paths.state_dir),
            signed=self._answers.signed,
            denied=self._answers.denied,
            audit_seq=self._audit.head.seq,
        )
        content = status_content(state, time.time())
        try:
            # In a thread: a disk that is slow to sync must not hold up signatures.
            await asyncio.get_running_loop().run_in_executor(None, write_status, self._paths.status, content)
        except OSError as err:
            LOG.error("%s: cannot be written: %s", self._paths.status, err.strerror)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        LOG.info("broker stops")
        dialers = [task for _, task in self._dialers.values()]
        for task in (*dialers, *tasks):
            task.cancel()
        await asyncio.gather(*dialers, *tasks, return_exceptions=True)
        await self._ring.close()
        with contextlib.suppress(AuditError):
            self._audit.append({"event": "stop"})
        self._audit.close()
        self._paths.status.unlink(missing_ok=True)
        shutil.rmtree(self._paths.run_dir, ignore_errors=True)
        self._pid_file.release()


def run_broker(paths: BrokerPaths) -> None:
    """Run the daemon to its end.

    Raises:
        BoscoError: see Broker.
    """

    async def run() -> None:
        await Broker(paths).run()

    for folder in (paths.state_dir, paths.log_dir):
        if not folder.is_dir():
            raise BrokerError(f"{folder}: there is no such folder", "gwms-ssh-broker init makes it")
        owner = folder.stat().st_uid
        if owner != os.geteuid():
            # Root could write there, and the daemon's own account not any more.
            hint = "start it as that user: systemctl start gwms-ssh-broker"
            raise BrokerError(f"{folder}: belongs to another user (uid {owner})", hint)
    asyncio.run(run())
