# SPDX-License-Identifier: Apache-2.0
"""Work on many accounts at once: a few threads, no account waits for another site, none stops the others."""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

from glideinwms_bosco.cli.target import Outcome, Sessions, Target, Work
from glideinwms_bosco.errors import BoscoError, RemoteError
from glideinwms_bosco.remote.throttle import Throttle
from glideinwms_bosco.site.model import Account, SiteDescription

DEFAULT_JOBS = 8
MAX_JOBS = 64
END_TIMEOUT_S = 20.0
"""How long an interrupted command waits for its threads (s); their ssh processes end with this one in any case."""
_POLL_S = 0.25


@dataclass(frozen=True)
class Result:
    """How the work on one account, or a site without usable accounts, has ended.

    Attributes:
        site: short name.
        account: name; None when the site's file is broken.
        outcome: what the work gave; None when there is an error.
        error: why it gave nothing.
        seconds: how long it took.
        begun: False when it was not tried, as the command was interrupted before.
    """

    site: str
    account: Optional[str]
    outcome: Optional[Outcome] = None
    error: Optional[BoscoError] = None
    seconds: float = 0.0
    begun: bool = True

    @property
    def label(self) -> str:
        """`SITE:ACCOUNT`, or the site."""
        return f"{self.site}:{self.account}" if self.account else self.site

    @property
    def ok(self) -> bool:
        """The work succeeded, and found nothing that makes the command fail."""
        return self.outcome is not None and self.outcome.ok

    @property
    def sentence(self) -> str:
        """The result, or the error, in one line."""
        if self.outcome is not None:
            return self.outcome.headline
        problems = self.error.problems if self.error else ()
        if problems:
            return f"{problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
        return str(self.error)


class View(Protocol):
    """Shows how the work goes on. `begin`, `tell` and `advance` are called from the threads of the work."""

    def begin(self, label: str) -> None:
        """An account's work begins."""

    def tell(self, label: str, sentence: str) -> None:
        """It waits for something."""

    def advance(self, label: str, done: int, total: int) -> None:
        """So many bytes of so many."""

    def ended(self, result: Result) -> None:
        """It has ended; called from the main thread."""

    def close(self) -> None:
        """Nothing more is to be shown while the work goes on."""


Prepare = Callable[[SiteDescription, Account, Sessions], Target]
"""Makes the target of an account; raises a BoscoError, for example when its key cannot be used."""


class Interrupted(KeyboardInterrupt):
    """The operator has ended the command; what was done until then is in `results`."""

    def __init__(self, results: tuple[Result, ...], cause: KeyboardInterrupt) -> None:
        super().__init__(*cause.args)
        self.results = results
        self.cause = cause


class _Task:
    def __init__(self, place: int, site: SiteDescription, account: Account, throttle: Throttle, view: View) -> None:
        self.place, self.site, self.account = place, site, account
        self.label = f"{site.short_name}:{account.name}"
        self.host = site.required_login().host.lower()
        self.sessions = Sessions(throttle, lambda sentence: view.tell(self.label, sentence))

    def result(self, outcome: Optional[Outcome], error: Optional[BoscoError], seconds: float, begun: bool) -> Result:
        return Result(self.site.short_name, self.account.name, outcome, error, seconds, begun)


class Fleet:
    """The accounts of one command.

    Args:
        accounts: what to work on.
        prepare, work: for one account each.
        throttle: of the command; its `stop` ends what waits.
        view: shows it.
    """

    def __init__(
        self,
        accounts: Sequence[tuple[SiteDescription, Account]],
        prepare: Prepare,
        work: Work,
        throttle: Throttle,
        view: View,
    ) -> None:
        self._prepare, self._work, self._throttle, self._view = prepare, work, throttle, view
        self._waiting = [_Task(place, *account, throttle, view) for place, account in enumerate(accounts)]
        self._size = len(self._waiting)
        self._running: dict[int, _Task] = {}
        self._lock = threading.Lock()
        self._done: queue.SimpleQueue[tuple[_Task, Result]] = queue.SimpleQueue()

    def run(self, jobs: int) -> tuple[Result, ...]:
        """Work on all of them, at most `jobs` at once.

        Returns:
            One result per account, in the order given.

        Raises:
            Interrupted: by a signal; running work has been ended.
        """
        results: dict[int, Result] = {}
        # Daemons: a thread that hangs must not keep an interrupted command from ending.
        threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(min(jobs, self._size))]
        for thread in threads:
            thread.start()
        try:
            self._collect(results, self._size, None)
        except KeyboardInterrupt as cause:
            self._end(results)
            raise Interrupted(tuple(results[place] for place in sorted(results)), cause) from None
        return tuple(results[place] for place in range(self._size))

    def _collect(self, results: dict[int, Result], until: int, ends_at: Optional[float]) -> None:
        while len(results) < until and (ends_at is None or time.monotonic() < ends_at):
            try:
                task, result = self._done.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            results[task.place] = result
            self._view.ended(result)

    def _end(self, results: dict[int, Result]) -> None:
        """Break off what runs, and account for all that has no result."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            running = tuple(self._running.values())
        self._throttle.stop.set()
        for task in running:
            task.sessions.abort()
        self._collect(results, self._size - len(waiting), time.monotonic() + END_TIMEOUT_S)
        for task in (*waiting, *running):
            if task.place not in results:
                error = RemoteError("not begun" if task in waiting else "ended in the middle")
                results[task.place] = task.result(None, error, 0.0, task not in waiting)

    def _next(self) -> Optional[_Task]:
        """The first account at the host that has the fewest running: a slow site must not take all threads."""
        with self._lock:
            if not self._waiting:
                return None
            hosts = [task.host for task in self._running.values()]
            task = min(self._waiting, key=lambda waiting: (hosts.count(waiting.host), waiting.place))
            self._waiting.remove(task)
            self._running[task.place] = task
            return task

    def _serve(self) -> None:
        while True:
            task = self._next()
            if task is None:
                return
            result = self._one(task)
            with self._lock:
                del self._running[task.place]
            self._done.put((task, result))

    def _one(self, task: _Task) -> Result:
        began = time.monotonic()
        outcome, error = None, None
        self._view.begin(task.label)
        try:
            target = self._prepare(task.site, task.account, task.sessions)
            outcome = self._work(target, lambda done, total: self._view.advance(task.label, done, total))
        except BoscoError as err:
            error = err
        except OSError as err:
            error = BoscoError(f"{err.filename}: {err.strerror}" if err.filename else str(err.strerror or err))
        except Exception as err:
            # Our mistake, whatever it is: the other accounts go on.
            if os.environ.get("GWMS_BOSCO_DEBUG"):
                traceback.print_exc()
            error = BoscoError(
                f"internal error: {type(err).__name__}: {err}", "please report it, with GWMS_BOSCO_DEBUG=1"
            )
        if error is not None and self._throttle.stop.is_set():
            error = RemoteError(f"ended in the middle: {error.message}", error.hint)
        return task.result(outcome, error, time.monotonic() - began, begun=True)
