# SPDX-License-Identifier: Apache-2.0
"""Wait for what happens on another machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.lab import Lab

_POLL_S = 0.3


def await_true(condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
    """Wait until a condition holds; fails with `what` when it does not within the deadline (s)."""
    ends = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {deadline_s} s"
        time.sleep(_POLL_S)


def await_no_gahp(lab: Lab) -> None:
    """Wait until the gridmanager has gone, and its connections with it: the next job starts new ones.

    Between two tries of a remote side that is down there is no gahp, but the gridmanager that will start it.
    """

    def gone() -> bool:
        return lab.run("factory", ["pgrep", "-f", "remote_gahp|condor_gridmanager"], check=False).returncode != 0

    await_true(gone, "gridmanager of earlier jobs gone")
