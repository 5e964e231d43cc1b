# SPDX-License-Identifier: Apache-2.0
"""Runs cases and watches: any exception but WireError and LinkError, a slow case and growing memory are findings."""

from __future__ import annotations

import os
import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Optional

from glideinwms_bosco.errors import LinkError, WireError
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import TARGETS, Target

SLOW_CASE_S = 1.0
# A case that never ends cannot be timed; the batch around it is stopped.
STUCK_BATCH_S = 60
BATCH_CASES = 1000
# What is loaded, cached and compiled once is there after the first batches of all targets.
WARM_UP_ROUNDS = 2
MEMORY_GROWTH_MAX_BYTES = 32 * 1024 * 1024
MAX_FINDINGS = 20


@dataclass(frozen=True)
class Finding:
    """One broken promise; `case` shows it again with --replay."""

    target: str
    case: bytes
    what: str


@dataclass
class Figures:
    """What was done."""

    cases: int = 0
    accepted: int = 0
    elapsed_s: float = 0.0
    slowest_s: float = 0.0


@dataclass
class Report:
    """Figures by target, findings, and by how much memory (bytes) grew after the warm-up."""

    seed: int
    figures: dict[str, Figures] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    growth_bytes: int = 0


class StuckError(Exception):
    """A case does not end."""


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(_number: int, _frame: Optional[FrameType]) -> None:
        raise StuckError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes() -> int:
    """Most memory this process ever had: also shows what one case took and gave back."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_case(target: Target, case: bytes) -> bool:
    """Run one case; return whether it was accepted.

    Raises:
        Exception: anything but a refusal, which is a finding.
    """
    try:
        target.run(case)
    except (WireError, LinkError):
        return False
    return True


def replay(name: str, case: bytes) -> bool:
    """Run one case of a finding again, with its traceback; return whether it was accepted."""
    (target,) = [target for target in TARGETS if target.name == name]
    return run_case(target, case)


def _is_slow(target: Target, case: bytes) -> bool:
    """Whether a case that took long takes long by itself, not because the machine was busy."""
    started = time.process_time()
    run_case(target, case)
    return time.process_time() - started > SLOW_CASE_S


def _run_batch(target: Target, mutator: Mutator, cases: int, report: Report) -> None:
    figures = report.figures.setdefault(target.name, Figures())
    clock, run, make = time.perf_counter, target.run, mutator.case
    began = clock()
    case = b""
    try:
        with _alarm(STUCK_BATCH_S):
            for _ in range(cases):
                case = make()
                started = clock()
                try:
                    run(case)
                    figures.accepted += 1
                except (WireError, LinkError):
                    pass
                took = clock() - started
                figures.cases += 1
                if took > figures.slowest_s:
                    figures.slowest_s = took
                    if took > SLOW_CASE_S and _is_slow(target, case):
                        report.findings.append(Finding(target.name, case, f"takes {took:.1f} s"))
    except Exception:  # A finding may be any exception at all.
        report.findings.append(Finding(target.name, case, traceback.format_exc()))
    figures.elapsed_s += clock() - began


def _check_seeds(report: Report) -> None:
    """A target whose seeds are all refused would test nothing."""
    for target in TARGETS:
        try:
            if not any(run_case(target, seed) for seed in target.seeds):
                report.findings.append(Finding(target.name, target.seeds[0], "no seed is accepted"))
        except Exception:  # As above.
            report.findings.append(Finding(target.name, target.seeds[0], traceback.format_exc()))


def run(cases: int, seed: int) -> Report:
    """Run about this many cases over all targets, in turns, and report."""
    report = Report(seed)
    _check_seeds(report)
    mutators = [Mutator(target.seeds, Random(f"{seed} {target.name}")) for target in TARGETS]  # noqa: S311
    shares = sum(target.share for target in TARGETS)
    rounds = max(1, -(-cases // (BATCH_CASES * len(TARGETS))))
    settled = peak_bytes()
    for number in range(rounds):
        for target, mutator in zip(TARGETS, mutators):
            _run_batch(target, mutator, max(1, cases * target.share // shares // rounds), report)
        if number < WARM_UP_ROUNDS:
            settled = peak_bytes()
        if len(report.findings) >= MAX_FINDINGS:
            break
    report.growth_bytes = peak_bytes() - settled
    if report.growth_bytes > MEMORY_GROWTH_MAX_BYTES:
        report.findings.append(Finding("all", b"", f"memory grew by {report.growth_bytes} bytes"))
    return report
