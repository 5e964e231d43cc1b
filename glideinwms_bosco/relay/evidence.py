# SPDX-License-Identifier: Apache-2.0
"""What taps saw of key exchanges, by the ssh process they work for, until that ssh asks for its signature. No I/O."""

from __future__ import annotations

from collections import OrderedDict

Pair = tuple[bytes, bytes]
"""(host key blob, signature over the exchange hash)"""

# sshd ends a login after LoginGraceTime (120 s); a pid can belong to another process then.
KEEP_S = 120.0
MAX_PIDS = 256
MAX_PAIRS_PER_PID = 4
MAX_BYTES_PER_PID = 40960
"""Together with the data of a signature request they fit into one frame of the link."""


class EvidenceStore:
    """Evidence of one handle's socket."""

    def __init__(self) -> None:
        self._by_pid: OrderedDict[int, tuple[float, tuple[Pair, ...]]] = OrderedDict()

    def add(self, ssh_pid: int, pair: Pair, now: float) -> None:
        """Keep a pair; the oldest goes when there is no room.

        Args:
            now: monotonic seconds.
        """
        pairs = (*self.get(ssh_pid, now), pair)[-MAX_PAIRS_PER_PID:]
        while sum(len(key) + len(signature) for key, signature in pairs) > MAX_BYTES_PER_PID:
            pairs = pairs[1:]
        self._by_pid[ssh_pid] = (now, pairs)
        self._by_pid.move_to_end(ssh_pid)
        while len(self._by_pid) > MAX_PIDS:
            self._by_pid.popitem(last=False)

    def get(self, ssh_pid: int, now: float) -> tuple[Pair, ...]:
        """The pairs of one ssh process, oldest first."""
        kept_at, pairs = self._by_pid.get(ssh_pid, (now, ()))
        return pairs if now - kept_at <= KEEP_S else ()
