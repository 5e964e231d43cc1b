# SPDX-License-Identifier: Apache-2.0
"""The backends of all keys that a policy names; those that a new policy still names are not touched by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.broker.backends.make import known_public_key, make_backend
from glideinwms_bosco.broker.backends.model import KeyBackend
from glideinwms_bosco.broker.policy_model import KeySource, Policy
from glideinwms_bosco.broker.seen_keys import SeenKeys
from glideinwms_bosco.errors import KeyBackendError
from glideinwms_bosco.sshwire.keys import PublicKey

LOG = logging.getLogger("gwms-ssh-broker")

Make = Callable[[str, KeySource, Path], KeyBackend]


class KeyRing:
    """Backends by what the policy says about their key: an entry's own, or a CA's, which entries may share.

    Args:
        folder: private; each backend gets a folder below it.
        make: makes a backend that is not started.
        seen: public keys of entries whose key is not loaded.
    """

    def __init__(self, folder: Path, make: Make = make_backend, seen: Optional[SeenKeys] = None) -> None:
        self._folder = folder
        self._make = make
        self._seen = seen
        self._not_loaded: dict[str, PublicKey] = {}
        self._backends: dict[KeySource, KeyBackend] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._first_tries: dict[KeySource, asyncio.Task[None]] = {}

    def backend(self, source: KeySource) -> Optional[KeyBackend]:
        """The backend of a key; None when it is not (or not any more) in use."""
        return self._backends.get(source)

    def is_starting(self, source: KeySource) -> bool:
        """Whether the backend of a key is still at its first try, so that its trouble means nothing yet."""
        first = self._first_tries.get(source)
        return first is not None and not first.done()

    def public_keys(self, policy: Policy) -> dict[str, PublicKey]:
        """Entry name -> public key, of entries whose key is known, in the order of the policy.

        A key that is not loaded but was seen once is left out when another entry has it by now.
        """
        found: dict[str, PublicKey] = {}
        for name, entry in policy.entries.items():
            backend = self._backends.get(entry.key)
            if backend is not None and backend.public_key is not None:
                found[name] = backend.public_key
        anchors = {policy.entries[name].anchor(key) for name, key in found.items()}
        for name, key in self._not_loaded.items():
            if name in policy.entries and name not in found:
                anchor = policy.entries[name].anchor(key)
                if anchor not in anchors:
                    anchors.add(anchor)
                    found[name] = key
        return {name: found[name] for name in policy.entries if name in found}

    def earlier_keys(self, policy: Policy) -> dict[str, PublicKey]:
        """Entry name -> key before the present one, of entries whose key has changed."""
        found: dict[str, PublicKey] = {}
        for name, entry in policy.entries.items():
            backend = self._backends.get(entry.key)
            if backend is not None and backend.earlier_key is not None:
                found[name] = backend.earlier_key
        return found

    def learn(self, policy: Policy, keys: Mapping[str, PublicKey]) -> None:
        """Remember keys for a time when they are not loaded."""
        if self._seen is not None:
            self._seen.learn(policy, keys)

    @property
    def starting(self) -> bool:
        """Whether a backend is still at its first try."""
        return bool(self._tasks)

    def use(self, policy: Policy) -> None:
        """Begin to start what the policy names and to end what it does not name; waits for nothing.

        A backend that could not do its work begins anew: an administrator who has mended its key reloads.
        """
        self._not_loaded = self._known_without_backend(policy)
        wanted = _sources(policy)
        for source, backend in list(self._backends.items()):
            if source not in wanted or (backend.trouble and not self.starting):
                self._first_tries.pop(source, None)
                self._begin(self._backends.pop(source).close())
        for source, name in wanted.items():
            if source in self._backends:
                continue
            self._count += 1
            try:
                backend = self._make(name, source, self._folder / str(self._count))
            except KeyBackendError as err:
                LOG.error("%s", err)
                continue
            self._backends[source] = backend
            self._first_tries[source] = self._begin(backend.start())

    async def close(self) -> None:
        """End all backends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        backends, self._backends = list(self._backends.values()), {}
        await asyncio.gather(*(backend.close() for backend in backends), return_exceptions=True)

    def _known_without_backend(self, policy: Policy) -> dict[str, PublicKey]:
        known: dict[str, PublicKey] = {}
        for name, entry in policy.entries.items():
            key = known_public_key(entry.key) or (self._seen.get(name, entry.key) if self._seen else None)
            if key is not None:
                known[name] = key
        return known

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("a key backend failed: %s", task.exception(), exc_info=task.exception())


def _sources(policy: Policy) -> Mapping[KeySource, str]:
    """Keys that are needed, and what their backend is called in the log. A disabled entry's key is not loaded."""
    found: dict[KeySource, str] = {}
    for name, entry in policy.entries.items():
        if entry.enabled:
            found.setdefault(entry.key, name)
            if entry.cert is not None:
                found.setdefault(entry.cert.ca, f"{name}'s CA")
    return found
