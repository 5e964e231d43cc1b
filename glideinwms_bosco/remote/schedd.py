# SPDX-License-Identifier: Apache-2.0
"""Run test jobs through the local schedd with HTCondor's Python bindings (version 2).

The bindings of the installed HTCondor are used: those of the PyPI wheel cannot authenticate (FS) to an older schedd.
They are imported when needed, so that everything else works on a machine without HTCondor.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

from glideinwms_bosco.errors import BoscoError, ScheddError
from glideinwms_bosco.remote.testjob import (
    MAX_OUTPUT_BYTES,
    WORD_FILE,
    JobState,
    TestPlan,
    apply_event,
    judge,
    submit_description,
    waiting_reason,
)

_POLL_S = 1
"""How long one look at the event log may wait (s)."""
_LOST_CHECK_S = 60.0
"""How often the schedd is asked whether the jobs still exist: an event log on a full disk says nothing (s)."""

MAX_LOG_BYTES = 1 << 20
"""How much of the gridmanager's log is searched for a reason."""

Report = Callable[[int, str], None]
"""Takes a job's number and a sentence about it."""


def bindings() -> ModuleType:
    """HTCondor's Python bindings.

    Raises:
        ScheddError: they are not installed.
    """
    try:
        import htcondor2
    except ImportError:
        raise ScheddError(
            "HTCondor's Python bindings are not installed",
            "run this on the factory, where the package `condor` brings htcondor2",
        ) from None
    module: ModuleType = htcondor2
    return module


@contextlib.contextmanager
def worded(what: str) -> Iterator[None]:
    """Turn any failure of the bindings into one line; they raise RuntimeError, ValueError and types of their own."""
    try:
        yield
    except BoscoError:
        raise
    except Exception as err:
        text = " ".join(str(err).split()) or type(err).__name__
        hint = "is HTCondor running, CONDOR_CONFIG set, and this user the schedd's?"
        raise ScheddError(f"{what}: {text}", hint) from err


class _GridmanagerLog:
    """What the gridmanager has logged from now on, as far as this user may read it."""

    def __init__(self, htcondor2: ModuleType) -> None:
        # HTCondor 25 puts the user's name behind the configured name.
        name = str(htcondor2.param.get("GRIDMANAGER_LOG", ""))
        self._paths = [Path(name), Path(f"{name}.{getpass.getuser()}")] if name else []
        self._from = {path: path.stat().st_size for path in self._paths if path.is_file()}

    def text(self) -> str:
        """The last part of it, MAX_LOG_BYTES at most; empty when it cannot be read, which only costs words."""
        return "".join(self._tail(path) for path in self._paths)

    def _tail(self, path: Path) -> str:
        start = self._from.get(path, 0)
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                # Smaller than before: it was rotated, and all of it is new.
                stream.seek(max(start if size >= start else 0, size - MAX_LOG_BYTES))
                return stream.read(MAX_LOG_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""


def run_test(plan: TestPlan, script: Path, report: Report) -> list[JobState]:
    """Submit the jobs of a plan and follow them to their end.

    Jobs that have not ended at the plan's time-out, or when this is interrupted, are removed from the schedd.

    Returns:
        One state per job; a job has passed when its `failure` is None.

    Raises:
        ScheddError: the schedd cannot be reached or refuses the jobs.
    """
    htcondor2 = bindings()
    description = submit_description(plan, script)
    (plan.folder / WORD_FILE).write_text(plan.word + "\n", encoding="utf-8")
    with worded("the local schedd cannot be found"):
        schedd = htcondor2.Schedd()
    with worded("the schedd does not take the test job"):
        cluster = int(schedd.submit(htcondor2.Submit(description), count=plan.jobs).cluster())
    gridmanager = _GridmanagerLog(htcondor2)
    report(-1, f"submitted as job {cluster} of the local schedd")
    jobs = {proc: JobState(proc) for proc in range(plan.jobs)}
    try:
        _follow(htcondor2, schedd, cluster, plan, jobs, report, gridmanager)
    finally:
        if any(job.exit_code is None for job in jobs.values()):
            _remove(htcondor2, schedd, cluster)
    return list(jobs.values())


def _follow(
    htcondor2: ModuleType,
    schedd: Any,
    cluster: int,
    plan: TestPlan,
    jobs: dict[int, JobState],
    report: Report,
    gridmanager: _GridmanagerLog,
) -> None:
    begun = time.monotonic()
    next_check = begun + _LOST_CHECK_S
    missed: set[int] = set()
    with (
        worded("the job event log cannot be read"),
        contextlib.closing(htcondor2.JobEventLog(str(plan.folder / "log"))) as log,
    ):
        while any(not job.ended for job in jobs.values()):
            for event in log.events(stop_after=_POLL_S):
                job = jobs.get(int(event.proc)) if int(event.cluster) == cluster else None
                if job is None or job.ended:
                    continue
                sentence = apply_event(job, {"MyType": _event_name(event), **dict(event)}, time.monotonic() - begun)
                if job.ended:
                    judge(job, plan, _read(plan, f"out.{job.proc}") or b"", _read(plan, f"result.{job.proc}"))
                if sentence:
                    report(job.proc, sentence)
            now = time.monotonic()
            if now - begun > plan.timeout_s:
                _time_out(schedd, cluster, jobs, plan.timeout_s, gridmanager.text())
            elif now > next_check:
                next_check = now + _LOST_CHECK_S
                missed = _find_lost(schedd, cluster, jobs, missed)


def _event_name(event: Any) -> str:
    return str(dict(event).get("MyType", ""))


def _ads(schedd: Any, cluster: int) -> dict[int, dict[str, Any]]:
    with worded("the schedd does not answer"):
        return {int(ad["ProcId"]): dict(ad) for ad in schedd.query(constraint=f"ClusterId == {cluster}")}


def _time_out(schedd: Any, cluster: int, jobs: dict[int, JobState], timeout_s: float, log: str) -> None:
    ads = _ads(schedd, cluster)
    for job in jobs.values():
        if not job.ended:
            reason = (
                waiting_reason(ads[job.proc], log) if job.proc in ads else "it has left the schedd without an event"
            )
            job.failure = f"not done after {timeout_s:.0f} s: {reason}"


def _find_lost(schedd: Any, cluster: int, jobs: dict[int, JobState], missed: set[int]) -> set[int]:
    """Give up jobs that the schedd did not know at the last look either, though no event said that they ended.

    Returns:
        The jobs missing now: the last event of one may still be on the way to the log.
    """
    ads = _ads(schedd, cluster)
    gone = {job.proc for job in jobs.values() if not job.ended and job.proc not in ads}
    for proc in gone & missed:
        jobs[proc].failure = "it has left the schedd without an event"
    return gone


def _remove(htcondor2: ModuleType, schedd: Any, cluster: int) -> None:
    # The jobs' outcome is known by now; that the schedd is gone must not hide it.
    with contextlib.suppress(ScheddError), worded("the test jobs cannot be removed"):
        schedd.act(htcondor2.JobAction.Remove, f"ClusterId == {cluster}", reason="gwms-bosco remote test is over")


def _read(plan: TestPlan, name: str) -> Optional[bytes]:
    try:
        with (plan.folder / name).open("rb") as stream:
            return stream.read(MAX_OUTPUT_BYTES)
    except OSError:
        return None
