# SPDX-License-Identifier: Apache-2.0
"""Runs inside a host: a command's wall time, and the memory it and all processes below it took at their peak.

`python3 -m tests.bench.meter COMMAND...` prints JSON: `seconds`, `status`, `peak_kb` (of the tree, shared pages counted
in shares), `own_peak_kb` (of the command's own process).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

_POLL_S = 0.1
# Source: proc(5), /proc/pid/smaps_rollup and /proc/pid/status.
_PSS = re.compile(r"^Pss:\s+([0-9]+) kB", re.MULTILINE)
_PEAK = re.compile(r"^VmHWM:\s+([0-9]+) kB", re.MULTILINE)


def _number(pattern: re.Pattern[str], path: Path) -> int:
    try:
        found = pattern.search(path.read_text())
    except OSError:
        # It has ended in the meantime.
        return 0
    return int(found[1]) if found else 0


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for children in Path("/proc").glob(f"{parent}/task/*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def measure(argv: list[str]) -> dict[str, float]:
    """Run the command; its output is dropped."""
    began = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    peak_kb = own_peak_kb = 0
    while process.poll() is None:
        peak_kb = max(peak_kb, sum(_number(_PSS, Path(f"/proc/{pid}/smaps_rollup")) for pid in _tree(process.pid)))
        own_peak_kb = max(own_peak_kb, _number(_PEAK, Path(f"/proc/{process.pid}/status")))
        time.sleep(_POLL_S)
    return {
        "seconds": time.monotonic() - began,
        "status": process.returncode,
        "peak_kb": peak_kb,
        "own_peak_kb": own_peak_kb,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1:])))
