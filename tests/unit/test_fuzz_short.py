# SPDX-License-Identifier: Apache-2.0
"""A short run of the fuzzer, with a seed that is the same each time and with a new one, and of its own alarms."""

from __future__ import annotations

import mmap
import secrets
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from glideinwms_bosco.errors import WireError
from tests.fuzz import runner
from tests.fuzz.mutation import Mutator, length_fields
from tests.fuzz.targets import TARGETS, Target

CASES = 80_000
FIXED_SEED = 20_260_101
NEW_SEED = secrets.randbits(32)


# A process of its own: only there is the memory that of the parsers.
@pytest.mark.parametrize("seed", [FIXED_SEED, NEW_SEED], ids=["fixed seed", "new seed"])
def test_nothing_is_found(seed: int) -> None:
    argv = [sys.executable, "-m", "tests.fuzz", "--cases", str(CASES), "--seed", str(seed)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False)
    print(done.stdout)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr}"
    assert f"seed {seed}" in done.stdout


def spoiled(run: object) -> Target:
    assert callable(run)
    return Target("spoiled", 1, (b"\0\0\0\1x",), run)


def only(monkeypatch: pytest.MonkeyPatch, target: Target) -> runner.Report:
    monkeypatch.setattr(runner, "TARGETS", (target,))
    return runner.run(50, 1)


def test_finds_a_foreign_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(case: bytes) -> None:
        _ = case[4]

    report = only(monkeypatch, spoiled(parse))
    assert "IndexError" in report.findings[0].what
    with pytest.raises(IndexError):
        runner.replay("spoiled", report.findings[0].case)


def test_finds_a_broken_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(case: bytes) -> None:
        assert case == b"\0\0\0\1x"

    assert "AssertionError" in only(monkeypatch, spoiled(parse)).findings[0].what


def test_finds_a_slow_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SLOW_CASE_S", 0.001)

    def parse(case: bytes) -> None:
        if case != b"\0\0\0\1x":
            sum(range(300_000))

    assert "takes" in only(monkeypatch, spoiled(parse)).findings[0].what


def test_finds_growing_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WARM_UP_ROUNDS", 0)
    kept: list[mmap.mmap] = []

    def parse(_: bytes) -> None:
        # Always pages of its own: the heap of a process that has run other tests may have room.
        kept.append(mmap.mmap(-1, 1024 * 1024))
        kept[-1].write(b"x" * (1024 * 1024))

    monkeypatch.setattr(runner, "peak_bytes", runner.resident_bytes)
    monkeypatch.setattr(runner, "MEMORY_GROWTH_MAX_BYTES", 16 * 1024 * 1024)
    assert "memory grew" in only(monkeypatch, spoiled(parse)).findings[-1].what


def test_finds_a_target_that_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_: bytes) -> None:
        raise WireError("no")

    assert only(monkeypatch, spoiled(parse)).findings[0].what == "no seed is accepted"


def test_same_seed_gives_same_cases() -> None:
    seeds = TARGETS[0].seeds
    first, second = (Mutator(seeds, Random(5)) for _ in range(2))  # noqa: S311
    assert [first.case() for _ in range(200)] == [second.case() for _ in range(200)]


def test_knows_length_fields() -> None:
    assert length_fields(b"\x0d\0\0\0\2ab\0\0\0\0") == [1, 7]
