# SPDX-License-Identifier: Apache-2.0
"""Command line of the fuzzer; exit status 1 when there is a finding."""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Optional

from tests.fuzz.runner import Figures, Report, replay, run

DEFAULT_CASES = 200_000


def _arguments(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=DEFAULT_CASES, metavar="N", help="cases in all")
    parser.add_argument("--seed", type=int, metavar="S", help="of the random numbers; a new one if not given")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="processes; job j runs with seed S + j")
    parser.add_argument("--replay", metavar="TARGET:HEX", help="run one case again and show its traceback")
    return parser.parse_args(argv)


def _print(reports: Sequence[Report], elapsed_s: float) -> None:
    names = list(reports[0].figures)
    total = Figures()
    print(f"{'target':18}{'cases':>10}{'accepted':>10}{'us/case':>9}{'slowest ms':>12}")
    for name in names:
        rows = [report.figures[name] for report in reports if name in report.figures]
        cases, accepted = sum(row.cases for row in rows), sum(row.accepted for row in rows)
        busy_s, slowest_s = sum(row.elapsed_s for row in rows), max(row.slowest_s for row in rows)
        total.cases += cases
        print(f"{name:18}{cases:10}{accepted:10}{busy_s / max(cases, 1) * 1e6:9.1f}{slowest_s * 1e3:12.2f}")
    growth = max(report.growth_bytes for report in reports)
    print(
        f"{total.cases} cases in {elapsed_s:.1f} s, {total.cases / elapsed_s:.0f}/s, memory grew by {growth >> 10} KiB"
    )


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the fuzzer; print figures and findings."""
    options = _arguments(argv)
    if options.replay:
        name, _, case = options.replay.partition(":")
        print("accepted" if replay(name, bytes.fromhex(case)) else "refused")
        return 0
    seed = secrets.randbits(32) if options.seed is None else options.seed
    jobs = max(1, options.jobs)
    print(f"seed {seed}, {jobs} job(s)", flush=True)
    began = time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        reports = list(pool.map(run, repeat(options.cases // jobs, jobs), range(seed, seed + jobs)))
    _print(reports, time.monotonic() - began)
    findings = [finding for report in reports for finding in report.findings]
    for finding in findings:
        print(f"\nFINDING in {finding.target}: {finding.what}\n--replay {finding.target}:{finding.case.hex()}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
