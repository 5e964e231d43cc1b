# SPDX-License-Identifier: Apache-2.0
"""Wait for what happens on another machine."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.lab import Lab
from tests.lab.process import wait_for
from tests.lab.settings import LabError


def await_true(
    condition: Callable[[], bool], what: str, deadline_s: float = 60.0, log: Callable[[], str] = str
) -> None:
    """Wait until a condition holds, as `wait_for` does; what then does not hold fails the test.

    Args:
        what: what is waited for, for the message.
        deadline_s: of a machine that does nothing else (s).
        log: what the message ends with.
    """
    try:
        wait_for(what, condition, deadline_s, log)
    except LabError as error:
        raise AssertionError(str(error)) from None


def await_no_gahp(lab: Lab) -> None:
    """Wait until the gridmanager has gone, and its connections with it: the next job starts new ones.

    Between two tries of a remote side that is down there is no gahp, but the gridmanager that will start it.
    """

    def gone() -> bool:
        return lab.run("factory", ["pgrep", "-f", "remote_gahp|condor_gridmanager"], check=False).returncode != 0

    await_true(gone, "gridmanager of earlier jobs gone")
