# SPDX-License-Identifier: Apache-2.0
"""Have what a test measures run before what other tests do on the same machine: late is measured as all at once."""

from __future__ import annotations

from tests.lab.lab import Lab

# Where the kernel shares time between sessions first (sched(7), autogroup), nice(1) counts only within one.
_FIRST = '[ ! -e /proc/$$/autogroup ] || echo -10 >/proc/$$/autogroup; exec nice -n -10 "$@"'
_PUT = """\
for pid in "$1" $(pgrep -P "$1"); do
    renice -n -10 -p "$pid"
    [ ! -e "/proc/$pid/autogroup" ] || echo -10 >"/proc/$pid/autogroup"
done
"""
FIRST = ("sh", "-c", _FIRST, "sh")
"""Before the words of a command that root runs."""


def put_first(lab: Lab, host: str, pid: int) -> None:
    """Put a process of a host and its children first."""
    lab.host(host).sh(_PUT, str(pid))
