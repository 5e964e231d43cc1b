# SPDX-License-Identifier: Apache-2.0
"""Connection hygiene: how often, and how many at once, this factory connects to a login host.

Centres block who connects too often, and then pilots cannot be submitted either. So all commands keep to the host's
limits together and back off with jitter when it turns a connection away. A refused login is never tried again, and
after a few of them the host is left alone: sshd (PerSourcePenalties) and fail2ban count them against our address.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import AuthenticationError, RemoteError, ThrottledError
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.throttle_state import MAX_QUIET_S, HostFolder, Slot

MAX_REFUSED_LOGINS = 3
"""Logins that one command lets a host refuse. Source: sshd_config(5), PerSourcePenalties: 5 s for each and no effect
below `min:15s`, so the fourth shuts this host out; fail2ban's `maxretry` is 5."""
_POLL_S = 0.2

Tell = Callable[[str], None]
"""Takes a sentence for the operator: what is waited for."""


@dataclass(frozen=True)
class Limits:
    """What one login host is burdened with: connections at once, and connections opened within any 60 s."""

    connections: int
    per_minute: int


@dataclass(frozen=True)
class Patience:
    """How long a login waits (s).

    Attributes:
        first_s: after the first connection that is turned away; doubled each time, up to MAX_QUIET_S.
        login_s: one login backs off for this long, all tries together.
        slot_s: for our own limits: another connection has to end (a deploy over a slow network may take this long),
            or a minute's number of connections is used up.
    """

    first_s: float = 2.0
    login_s: float = 120.0
    slot_s: float = 1800.0


@dataclass
class _Logins:
    """This command's logins at one host whose outcome is open, how many were refused, how many may be open."""

    open: int = 0
    refused: int = 0
    at_once: int = MAX_REFUSED_LOGINS
    changed: threading.Condition = field(default_factory=threading.Condition)


class Throttle:
    """One per command; its threads share it.

    Args:
        folder: shared by all commands of this factory. Where it cannot be written, the limits hold for this command
            alone.
        patience: how long to wait.
        stop: all waiting ends when it is set.
        clock: UNIX time (s).
    """

    def __init__(
        self,
        folder: Path,
        patience: Optional[Patience] = None,
        stop: Optional[threading.Event] = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.patience = patience or Patience()
        self.stop = stop or threading.Event()
        self.clock = clock
        self._folder = folder
        self._lock = threading.Lock()
        self._logins: dict[str, _Logins] = {}
        self._folders: dict[str, HostFolder] = {}
        self._own: Optional[tempfile.TemporaryDirectory[str]] = None

    def gate(self, hops: Sequence[Endpoint], limits: Limits, remedy: str, tell: Tell) -> Gate:
        """The gate of one connection.

        Args:
            hops: hosts on the way, the login host last; each is kept to the same limits.
            limits: of the login host.
            remedy: what an operator can do about limits, for messages.
            tell: called when there is something to wait for.
        """
        return Gate(self, tuple(hops), limits, remedy, tell)

    def folder(self, hop: Endpoint) -> HostFolder:
        """Files of one host; the same object each time."""
        name = f"{hop.host.lower()}_{hop.port}"
        with self._lock:
            if name not in self._folders:
                self._folders[name] = self._open_folder(name)
            return self._folders[name]

    def _open_folder(self, name: str) -> HostFolder:
        with contextlib.suppress(OSError):
            return HostFolder(self._folder / name)
        if self._own is None:
            self._own = tempfile.TemporaryDirectory(prefix="gwms-connections-")
        return HostFolder(Path(self._own.name) / "connections" / name)

    def logins(self, hop: Endpoint) -> _Logins:
        """What this command has tried at one host."""
        with self._lock:
            return self._logins.setdefault(f"{hop.host.lower()}_{hop.port}", _Logins())


class Gate:
    """Lets one connection through; made by `Throttle.gate`, used by one thread."""

    def __init__(self, throttle: Throttle, hops: tuple[Endpoint, ...], limits: Limits, remedy: str, tell: Tell) -> None:
        self._throttle = throttle
        # Always in the same order: two ways with common hosts must not wait for each other.
        self._hops = tuple(sorted(hops, key=lambda hop: (hop.host, hop.port)))
        self._login = hops[-1]
        self._limits = limits
        self._remedy = remedy
        self._tell = tell
        self._slots: list[Slot] = []

    def enter(self, log_in: Callable[[], None], where: str) -> None:
        """Wait for a free connection, then log in, again when the host turns the connection away.

        The slot is held until `leave`, which the caller calls whatever happens.

        Args:
            log_in: opens the connection or raises; called at least once unless the host's limits forbid it.
            where: opens the messages.

        Raises:
            ThrottledError: the host turned all tries away, or a limit left no turn in time.
            RemoteError: what `log_in` raises, or waiting was ended.
        """
        for hop in self._hops:
            self._slots.append(self._slot(hop, where))
        ends_at = None
        while True:
            try:
                with self._login_permit(where):
                    ends_at = ends_at or time.monotonic() + self._throttle.patience.login_s
                    for hop in self._hops:
                        ends_at += self._start(hop, where, ends_at)
                    log_in()
            except ThrottledError as error:
                # What `_start` raises is final; what ssh was told by a host has ssh's words.
                if error.detail is None or ends_at is None:
                    raise
                hop = next((hop for hop in self._hops if hop.label in error.message), self._login)
                self._turned_away(hop, error, ends_at)
            else:
                for hop in self._hops:
                    self._answered(hop)
                return

    def leave(self) -> None:
        """Give the connection's place to others. Safe to call twice."""
        while self._slots:
            self._slots.pop().close()

    def _slot(self, hop: Endpoint, where: str) -> Slot:
        folder = self._throttle.folder(hop)
        ends_at = time.monotonic() + self._throttle.patience.slot_s
        told = False
        while True:
            slot = folder.take_slot(self._limits.connections)
            if slot is not None:
                return slot
            if not told:
                told = True
                self._tell(f"all {self._limits.connections} connections to {hop.host} are in use; waiting for one")
            if time.monotonic() > ends_at:
                raise ThrottledError(
                    f"{where}: for {self._throttle.patience.slot_s:.0f} s all {self._limits.connections} connections "
                    f"of this factory to {hop.host} were in use (login.max_connections)",
                    "wait for the other gwms-bosco commands, or raise the limit in the site file",
                )
            self._pause(_POLL_S * random.uniform(0.5, 1.5), where)  # noqa: S311 - spreads, hides nothing

    @contextlib.contextmanager
    def _login_permit(self, where: str) -> Iterator[None]:
        """Keep to as many open logins as may all be refused without harm."""
        logins = self._throttle.logins(self._login)
        ends_at = time.monotonic() + self._throttle.patience.slot_s
        with logins.changed:
            while logins.refused < MAX_REFUSED_LOGINS and (
                logins.open >= logins.at_once or logins.open + logins.refused >= MAX_REFUSED_LOGINS
            ):
                self._check(where)
                if time.monotonic() > ends_at:
                    raise ThrottledError(
                        f"{where}: not tried: other logins there do not come to an end", "try again later"
                    )
                logins.changed.wait(_POLL_S)
            if logins.refused >= MAX_REFUSED_LOGINS:
                raise ThrottledError(
                    f"{where}: not tried: {self._login.host} has refused {logins.refused} logins of this command, "
                    "and with more it would shut this factory out",
                    "mend the accounts whose key was refused, then go on with --retry-failed",
                )
            logins.open += 1
        refused = 0
        try:
            yield
        except AuthenticationError:
            refused = 1
            raise
        finally:
            with logins.changed:
                logins.refused += refused
                logins.open -= 1
                logins.changed.notify_all()

    def _start(self, hop: Endpoint, where: str, ends_at: float) -> float:
        """Take a turn within the host's rate, after its quiet time.

        Args:
            ends_at: the quiet time must be over by then (monotonic, s). For the rate there is `Patience.slot_s`: with
                a small one and several accounts at a host each would otherwise wait in vain.

        Returns:
            Seconds that were waited for the rate.
        """
        folder = self._throttle.folder(hop)
        told = False
        turn_ends_at, waited_s = time.monotonic() + self._throttle.patience.slot_s, 0.0
        while True:
            now = self._throttle.clock()
            with folder.changing(now) as state:
                wait_s = state.wait_s(self._limits.per_minute, now)
                if wait_s <= 0:
                    state.starts.append(now)
                    return waited_s
                quiet = state.quiet_until > now
                too_quiet = quiet and time.monotonic() + state.quiet_until - now > ends_at
            if too_quiet or time.monotonic() + wait_s > turn_ends_at:
                raise self._no_turn(hop, folder, where, now + wait_s, too_quiet)
            if not told:
                told = True
                why = "turned us away" if quiet else f"was called {self._limits.per_minute} times within a minute"
                self._tell(f"{hop.host} {why}; next try in {wait_s:.0f} s")
            self._pause(wait_s, where)
            waited_s += 0.0 if quiet else wait_s

    def _no_turn(self, hop: Endpoint, folder: HostFolder, where: str, at: float, quiet: bool) -> ThrottledError:
        if not quiet:
            return ThrottledError(
                f"{where}: not tried: {self._limits.per_minute} connections to {hop.host} within a minute are this "
                f"factory's limit (login.connections_per_minute), the next may be opened at {_utc(at)}",
                "try again then, or raise the limit in the site file if the centre allows more",
            )
        return ThrottledError(
            f"{where}: not tried: {hop.host} keeps turning this factory's connections away (PerSourcePenalties, "
            f"MaxStartups, a firewall?); the next try may be made at {_utc(at)}",
            f"{self._remedy}; once it is settled: rm {folder.file}",
        )

    def _turned_away(self, hop: Endpoint, error: ThrottledError, ends_at: float) -> None:
        """Write down when the host may be tried again; give up when that is too late for this login."""
        logins, now = self._throttle.logins(self._login), self._throttle.clock()
        with logins.changed:
            # One at a time from now on: with MaxStartups that alone may be the cure.
            logins.at_once = 1
        folder = self._throttle.folder(hop)
        with folder.changing(now) as state:
            # Those who were turned away at the same moment count as one.
            if state.quiet_until <= now:
                state.refusals += 1
                longest = min(MAX_QUIET_S, self._throttle.patience.first_s * 2.0 ** min(state.refusals - 1, 16))
                state.quiet_until = now + longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, hides nothing
            tries, at = state.refusals, state.quiet_until
        if time.monotonic() + (at - now) > ends_at:
            times = "once" if tries == 1 else f"{tries} times in a row"
            raise ThrottledError(
                f"{error.message}, {times}; the next try may be made at {_utc(at)}", self._remedy, error.detail
            ) from None

    def _answered(self, hop: Endpoint) -> None:
        now = self._throttle.clock()
        with self._throttle.folder(hop).changing(now) as state:
            state.refusals, state.quiet_until = 0, 0.0

    def _pause(self, seconds: float, where: str) -> None:
        self._throttle.stop.wait(seconds)
        self._check(where)

    def _check(self, where: str) -> None:
        if self._throttle.stop.is_set():
            raise RemoteError(f"{where}: ended before it had logged in")


def _utc(at: float) -> str:
    return time.strftime("%H:%M:%S UTC", time.gmtime(at))
