# SPDX-License-Identifier: Apache-2.0
"""A daemon that a test starts in a lab host, stops, kills and hangs; it dies with its host."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.lab.lab import Lab
from tests.lab.waiting import await_true

STOP_DEADLINE_S = 20.0
# A signal goes to one process, which execs: no shell stands between.
_START = 'log=$1; pid=$2; shift 2; setsid "$@" >>"$log" 2>&1 </dev/null & echo $! >"$pid"'


@dataclass(frozen=True)
class Daemon:
    """One program of a host.

    Attributes:
        host, user: where and as whom it runs.
        argv: the command, without shell.
        name: of its log and pid file in /var/tmp/NAME.
        env: added to a clean environment.
    """

    lab: Lab
    host: str
    user: str
    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def _log(self) -> str:
        return f"/var/tmp/{self.name}.log"

    @property
    def _pid(self) -> str:
        return f"/var/tmp/{self.name}.pid"

    def start(self) -> None:
        """Start it; the caller waits for what it provides."""
        argv = ["sh", "-c", _START, "sh", self._log, self._pid, *self.argv]
        self.lab.run(self.host, argv, user=self.user, env=self.env)

    def pid(self) -> int:
        """Its process id inside the host."""
        return int(self.lab.read_file(self.host, self._pid))

    def alive(self) -> bool:
        """Tell whether it runs: a process that has ended and was not collected does not."""
        script = 'read -r p <"$1" && read -r _ _ s _ <"/proc/$p/stat" && [ "$s" != Z ]'
        return self.lab.run(self.host, ["sh", "-c", script, "sh", self._pid], check=False).returncode == 0

    def signal(self, name: str) -> None:
        """Send it a signal by name: TERM, KILL, STOP, CONT, HUP."""
        self.lab.run(self.host, ["kill", f"-{name}", str(self.pid())])

    def stop(self, name: str = "TERM") -> None:
        """End it by a signal and wait until it is gone; nothing to do when it does not run."""
        if self.alive():
            self.signal(name)
            await_true(lambda: not self.alive(), f"end of {shlex.join(self.argv)}", STOP_DEADLINE_S)

    def log(self) -> str:
        """What it has printed since its first start."""
        return self.lab.run(self.host, ["cat", self._log], check=False).stdout
