# SPDX-License-Identifier: Apache-2.0
"""Facts become findings: from an account with nothing to find, each changed fact gives its finding and no other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from glideinwms_bosco.batch import BATCH_SYSTEMS, ResourceRequest
from glideinwms_bosco.batch.probing import BatchFacts, Queue
from glideinwms_bosco.remote.messages import Message, Reply
from glideinwms_bosco.remote.probe_codes import RULES, Finding, summary
from glideinwms_bosco.remote.probe_facts import JobResult, SshFacts, clock_offset, parse_probe
from glideinwms_bosco.remote.probe_findings import judge
from glideinwms_bosco.remote.probe_wishes import Demand, Platform, Wishes

GOOD = """\
ACCOUNT pilot
GROUPS pilot cms
NODE login1
HOME /home/pilot
PLACE /home/pilot/bosco
ARCH x86_64
KERNEL 6.1.0
SYSTEM Some Linux 9
LIBC 2.41
SHELL /bin/bash
PYTHON 3.9.18
SSHD OpenSSH_9.6
WRITE ok
FREE-KB 100000000
SIZE-KB 200000000
FREE-INODES 1000000
LOGIN complete
UMASK 0022
LIMIT processes 4096
LIMIT files 1024
LIMIT cpu unlimited
TMP runs
JOB back
JOB-RESULT token
JOB-RESULT worker7
CLOCK 1000000000.250000000
CLOCK 1000000005.250000000
LOGIN ended 0
"""
SLURM = Wishes(
    BATCH_SYSTEMS["slurm"],
    (Demand("E", ResourceRequest(queue="batch", project="acct", walltime_s=7200), 100),),
    (Platform("x86_64", "2.38"),),
    "token",
)
BATCH = BatchFacts(
    version="24.11.5", queues=(Queue("batch", default=True),), projects=("acct",), max_queued=1000, accounting=True
)
SSH = SshFacts(True, 10)


def reply_of(text: str, noise: str = "") -> Reply:
    pairs = (line.partition(" ") for line in text.splitlines())
    return Reply(noise, True, True, tuple(Message(key, value) for key, _, value in pairs))


def found(text: str = GOOD, noise: str = "", **given: Any) -> tuple[Finding, ...]:
    """Findings of an answer that came within 5.5 s of our clock, started at the same time as there."""
    facts = parse_probe(reply_of(text, noise), 1000000000.0, 1000000005.5)
    return judge(facts, given.get("ssh", SSH), given.get("batch", BATCH), given.get("wishes", SLURM))


def with_line(key: str, value: str) -> str:
    """The good answer with other lines of one key; with none if `value` is empty."""
    kept = [line for line in GOOD.splitlines() if not f"{line} ".startswith(f"{key} ")]
    return "\n".join([*kept, *([f"{key} {value}"] if value else [])]) + "\n"


def batch(**changed: Any) -> dict[str, Any]:
    return {"batch": dataclasses.replace(BATCH, **changed)}


def queue(**changed: Any) -> dict[str, Any]:
    return batch(queues=(Queue("batch", **changed),))


def wish(**changed: Any) -> dict[str, Any]:
    return {"wishes": dataclasses.replace(SLURM, **changed)}


def job(outcome: str, *says: str) -> str:
    """The good answer with another end of the test job."""
    kept = "".join(f"{line}\n" for line in GOOD.splitlines() if not line.startswith("JOB"))
    return kept + f"JOB {outcome}\n" + "".join(f"JOB-SAYS {line}\n" for line in says)


def moved_clock(offset_s: float) -> str:
    times = (f"{1000000000.25 + offset_s:.3f}", f"{1000000005.25 + offset_s:.3f}")
    return with_line("CLOCK", times[0]) + f"CLOCK {times[1]}\n"


CASES: list[tuple[int, str, dict[str, Any]]] = [
    (1, with_line("ARCH", "aarch64"), {}),
    (1, with_line("ARCH", ""), {}),
    (2, with_line("LIBC", "2.37"), {}),
    (2, with_line("LIBC", "musl"), {}),
    (3, GOOD + "NO-TOOL tar\n", {}),
    (4, with_line("PYTHON", ""), {}),
    (10, with_line("LOGIN", "no-bash"), {}),
    (11, with_line("LOGIN", "ended 124"), {}),
    (11, with_line("LOGIN", ""), {}),
    (12, with_line("LOGIN", "reads"), {}),
    (13, GOOD + "PROFILE-NOISE hello\n", {}),
    (13, GOOD, {"noise": "hello"}),
    (14, with_line("UMASK", "0000"), {}),
    (14, with_line("UMASK", "0222"), {}),
    (20, with_line("WRITE", "dd: No space left on device"), {}),
    (20, with_line("WRITE", ""), {}),
    (21, with_line("FREE-KB", "204799"), {}),
    (21, with_line("FREE-INODES", "999"), {}),
    (22, GOOD + "QUOTA fs:/home 900 1000 2000 0 10 0 0 0\n", {}),
    (22, GOOD + "QUOTA fs:/home 1* 0 0 0 95* 0 100 0\n", {}),
    (23, job("ended"), {}),
    (23, job("ended", "JobState=FAILED Reason=NonZeroExitCode", "ExitCode=81:0"), {}),
    (24, with_line("TMP", "none"), {}),
    (25, with_line("TMP", "noexec"), {}),
    (30, GOOD, {"ssh": SshFacts(False, 10)}),
    (31, GOOD, {"ssh": SshFacts(True, 9)}),
    (32, with_line("SSHD", "OpenSSH_9.8p1"), {}),
    (40, moved_clock(301), {}),
    (40, moved_clock(-301), {}),
    (41, moved_clock(31), {}),
    (41, moved_clock(-31), {}),
    (50, GOOD + "NO-COMMAND sbatch\n", {}),
    (51, GOOD, {"batch": BatchFacts(answers=False, trouble="down")}),
    (52, GOOD, batch(queues=(Queue("other"),))),
    (53, GOOD, queue(accepts=False, note="DRAIN")),
    (54, GOOD, queue(usable=False)),
    (54, GOOD, queue(projects=("another",))),
    (55, GOOD, batch(projects=("another",))),
    (56, GOOD, queue(max_walltime_s=7199)),
    (57, GOOD, batch(max_queued=99)),
    (58, job("refused", "no"), {}),
    (59, job("ended", "JobState=FAILED Reason=NonZeroExitCode", "ExitCode=1:0"), {}),
    (59, with_line("JOB-RESULT", "another"), {}),
    (60, job("waits", "JobState=PENDING Reason=Priority"), {}),
    (61, GOOD, batch(accounting=False, keeps_ended_s=60)),
    (63, GOOD, batch(lacks=("the Perl module XML::Simple",))),
    (70, with_line("LIMIT", "cpu 3600"), {}),
    (71, with_line("LIMIT", "files 255"), {}),
    (71, with_line("LIMIT", "processes 99"), {}),
    (80, GOOD, {"ssh": SshFacts(None, 10)}),
    (80, GOOD, {"ssh": SshFacts(True, None)}),
    (80, with_line("CLOCK", "yesterday"), {}),
    (80, job("no-folder"), {}),
    (80, job("ended"), wish(system=BATCH_SYSTEMS["condor"])),
]


def test_nothing_wrong_is_no_finding() -> None:
    assert found() == ()
    assert summary(found()) == "no findings"


@pytest.mark.parametrize(("number", "text", "given"), CASES)
def test_one_wrong_fact_is_one_finding(number: int, text: str, given: dict[str, Any]) -> None:
    assert [finding.number for finding in found(text, **given)] == [number]


def test_forgetful_slurm_is_told_beside_its_missing_accounting() -> None:
    assert [f.number for f in found(**batch(accounting=False, keeps_ended_s=59))] == [61, 62]


# Those of test_remote_probe_network.
NETWORK = set(range(90, 99))


def test_every_code_has_a_test() -> None:
    assert {number for number, _, _ in CASES} | {62} | NETWORK == set(RULES)


JUST_RIGHT: list[tuple[str, dict[str, Any]]] = [
    (with_line("LIBC", "2.38"), {}),
    (with_line("UMASK", "0002"), {}),
    (with_line("UMASK", "0077"), {}),
    (with_line("FREE-KB", "204800"), {}),
    (with_line("FREE-KB", ""), {}),
    (GOOD + "QUOTA fs:/home 899 1000 2000 0 10 0 0 0\n", {}),
    (GOOD + "QUOTA fs:/home garbage 1 1 1\n", {}),
    (moved_clock(29), {}),
    (moved_clock(-29), {}),
    (with_line("SSHD", "OpenSSH_9.8p1") + "SSHD-SETTING PerSourcePenalties no\n", {}),
    (with_line("SSHD", "OpenSSH_9.8p1") + "SSHD-SETTING PerSourcePenaltyExemptList 192.0.2.1\n", {}),
    (with_line("PYTHON", ""), wish(system=BATCH_SYSTEMS["condor"])),
    (GOOD, wish(platforms=())),
    (GOOD, wish(platforms=(Platform("aarch64", "2.50"), Platform("x86_64", "2.50"), Platform("x86_64", "2.17")))),
    (GOOD, wish(job_token=None)),
    (GOOD, queue(max_walltime_s=7200, usable=True, projects=("acct",))),
    (GOOD, batch(max_queued=100)),
    (GOOD, batch(queues=None, projects=None, max_queued=None, accounting=None)),
]


@pytest.mark.parametrize(("text", "given"), JUST_RIGHT)
def test_what_is_just_right_is_no_finding(text: str, given: dict[str, Any]) -> None:
    assert found(text, **given) == ()


def test_what_follows_from_another_finding_is_not_told() -> None:
    full = job("no-folder") + "WRITE dd: Disk quota exceeded\n"
    assert [f.number for f in found(full.replace("WRITE ok\n", ""))] == [20]
    refused = job("refused", "Invalid partition name specified")
    assert [f.number for f in found(refused, **batch(queues=(Queue("other"),)))] == [52]
    assert [f.number for f in found(refused + "NO-COMMAND sbatch\n")] == [50]
    hanging = "\n".join(line for line in GOOD.splitlines() if not line.startswith(("JOB", "LOGIN"))) + "\n"
    assert [f.number for f in found(hanging + "LOGIN ended 124\n", batch=BatchFacts(answers=False))] == [11]


def test_same_queue_of_several_entries_is_told_once() -> None:
    demands = tuple(Demand(name, ResourceRequest(queue="nosuch")) for name in ("A", "B"))
    assert [f.number for f in found(**wish(demands=demands))] == [52]


def test_clock_bounds_do_not_widen_with_the_time_the_job_takes() -> None:
    reply = reply_of("CLOCK 1000000000.5\nCLOCK 1000000600.5\n")
    assert clock_offset(reply, 1000000000.25, 1000000601.0) == (-0.5, 0.25)


def test_clock_in_whole_seconds_has_a_second_of_doubt() -> None:
    assert clock_offset(reply_of("CLOCK 1000000000\nCLOCK 1000000001\n"), 1000000000.5, 1000000001.5) == (-0.5, 0.5)


@pytest.mark.parametrize("key", sorted({line.split()[0] for line in GOOD.splitlines()}))
@pytest.mark.parametrize("value", ["", "\x1b[31m \x00", "9" * 400, "-1", "+3", "1_0", " ", "ended 9999"])
def test_any_value_of_any_line_gives_a_report(key: str, value: str) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if line.split()[0] != key)
    for finding in found(f"{text}\n{key} {value}\n"):
        assert str(finding).isprintable()


def test_report_of_an_empty_answer_is_still_a_report() -> None:
    facts = parse_probe(reply_of(""), 0.0, 1.0)
    assert facts.job == JobResult()
    assert judge(facts, SshFacts(), BatchFacts(answers=False), SLURM)
