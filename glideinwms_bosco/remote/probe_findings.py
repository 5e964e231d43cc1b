# SPDX-License-Identifier: Apache-2.0
"""Judge what a probe has learnt: facts in, findings out. Pure.

One cause gives one finding: what follows from another finding (no test job comes back from a full home) is not said.
"""

from __future__ import annotations

from collections.abc import Iterator

from glideinwms_bosco.batch.probing import BatchFacts
from glideinwms_bosco.remote.probe_codes import Finding
from glideinwms_bosco.remote.probe_facts import SESSIONS_WANTED, AccountFacts, Quota, SshFacts
from glideinwms_bosco.remote.probe_findings_batch import find_batch, find_job
from glideinwms_bosco.remote.probe_wishes import Wishes

CLOCK_ERROR_S = 300
CLOCK_WARNING_S = 30
# A bundle has 10 MB, and the next version lies beside it; the rest is for pilots' output.
LITTLE_SPACE_KB = 200 * 1024
FEW_INODES = 1000
QUOTA_WARNING = 0.9
MIN_PROCESSES = 100  # blahpd starts several per job that it submits
MIN_FILES = 256
MIN_CPU_S = 24 * 3600
PENALTIES_SINCE = (9, 8)
# What timeout(1) ends with: GNU's own status, and that of the TERM it has sent (busybox).
EXPIRED = ("124", "143")


def judge(facts: AccountFacts, ssh: SshFacts, batch: BatchFacts, wishes: Wishes) -> tuple[Finding, ...]:
    """All findings, in the order of their codes."""
    found = [*_machine(facts, wishes), *_shell(facts), *_storage(facts), *_sshd(facts, ssh), *_clock(facts)]
    found += _limits(facts)
    if facts.login == "complete":
        found += find_batch(facts, batch, wishes)
        if not facts.write_trouble and wishes.job_token is not None:
            blocked = any(50 <= finding.number <= 58 and finding.severity == "error" for finding in found)
            found += find_job(facts, wishes, blocked)
    return tuple(sorted(found, key=lambda finding: finding.number))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _machine(facts: AccountFacts, wishes: Wishes) -> Iterator[Finding]:
    if wishes.platforms:
        fitting = [p for p in wishes.platforms if p.architecture == facts.architecture]
        if not fitting:
            have = ", ".join(dict.fromkeys(p.architecture for p in wishes.platforms))
            yield Finding(1, f"the machine is {facts.architecture or 'of an unknown kind'}, the bundle is for {have}")
        elif facts.libc is None:
            yield Finding(2, f"no glibc found; the bundle needs glibc {fitting[0].glibc_min}")
        elif not any(_version(p.glibc_min) <= _version(facts.libc) for p in fitting):
            oldest = min((p.glibc_min for p in fitting), key=_version)
            yield Finding(2, f"glibc {facts.libc} is older than {oldest}, which the bundle needs")
    if facts.missing_tools:
        yield Finding(3, f"not found: {', '.join(facts.missing_tools)}")
    if facts.python is None and wishes.system.status_needs_python:
        yield Finding(4, f"/usr/bin/python3 does not run; HTCondor's status script for {wishes.system.name} needs it")


def _shell(facts: AccountFacts) -> Iterator[Finding]:
    if facts.login == "no-bash":
        yield Finding(10, "there is no /bin/bash")
    elif facts.login == "reads":
        yield Finding(12, "the login profile reads standard input")
    elif facts.login != "complete":
        status = facts.login.partition(" ")[2] or "unknown"
        what = "hangs" if status in EXPIRED else f"ends the shell (status {status})"
        yield Finding(11, f"the login profile {what}")
    said = [
        f"{where} prints: {text}"
        for where, text in (("the shell of `ssh host command`", facts.noise), ("bash -l -c", facts.profile_noise))
        if text
    ]
    if said:
        yield Finding(13, "; ".join(said))
    if facts.umask is not None and (facts.umask & 0o700 or not facts.umask & 0o002):
        what = "takes rights from the account" if facts.umask & 0o700 else "lets everybody write"
        yield Finding(14, f"umask {facts.umask:04o} {what}")


def _storage(facts: AccountFacts) -> Iterator[Finding]:
    if facts.write_trouble:
        yield Finding(20, f"{facts.place}: {facts.write_trouble}")
    elif facts.free_kb is not None and facts.free_kb < LITTLE_SPACE_KB:
        yield Finding(21, f"{facts.place}: {facts.free_kb // 1024} MB free")
    elif facts.free_inodes is not None and facts.free_inodes < FEW_INODES:
        yield Finding(21, f"{facts.place}: {facts.free_inodes} inodes free")
    for quota in facts.quotas:
        what = _quota(quota)
        if what:
            yield Finding(22, f"{quota.file_system}: {what}")
    if facts.tmp == "none":
        yield Finding(24, "no file can be made in /tmp")
    elif facts.tmp == "noexec":
        yield Finding(25, "a program in /tmp does not run")


def _quota(quota: Quota) -> str:
    for used, soft, hard, unit in zip(quota.used, quota.soft, quota.hard, ("kB", "files")):
        limits = [limit for limit in (soft, hard) if limit]
        if limits and used >= QUOTA_WARNING * min(limits):
            return f"{used} of {min(limits)} {unit} used"
    return ""


def _sshd(facts: AccountFacts, ssh: SshFacts) -> Iterator[Finding]:
    if ssh.forwarding is False:
        yield Finding(30, "a remote forwarding (ssh -R) is refused")
    if ssh.sessions is not None and ssh.sessions < SESSIONS_WANTED:
        yield Finding(31, f"{ssh.sessions} sessions at once are given on one connection, not {SESSIONS_WANTED}")
    numbers, settings = facts.sshd_numbers, facts.sshd_settings
    exempt = "persourcepenaltyexemptlist" in settings or settings.get("persourcepenalties", "").lower() == "no"
    if numbers is not None and numbers >= PENALTIES_SINCE and not exempt:
        hidden = ", as far as its configuration can be read" if facts.sshd_hidden else ""
        yield Finding(32, f"{facts.sshd_version} has PerSourcePenalties on{hidden}")
    for what, known in (("forwarding", ssh.forwarding), ("sessions on one connection", ssh.sessions)):
        if known is None:
            yield Finding(80, f"not found out: {what}")


def _clock(facts: AccountFacts) -> Iterator[Finding]:
    if facts.clock_offset_s is None:
        yield Finding(80, "not found out: its clock")
        return
    low, high = facts.clock_offset_s
    # What is certain: the bounds hold the time that the connection takes.
    off = low if low > 0 else min(high, 0.0)
    if abs(off) > CLOCK_WARNING_S:
        way = "ahead of" if off > 0 else "behind"
        number = 40 if abs(off) > CLOCK_ERROR_S else 41
        yield Finding(number, f"its clock is {abs(off):.0f} s {way} this host's")


def _limits(facts: AccountFacts) -> Iterator[Finding]:
    if facts.max_cpu_s is not None and facts.max_cpu_s < MIN_CPU_S:
        yield Finding(70, f"a process may use {facts.max_cpu_s} s of CPU time")
    few = [
        f"{value} {what}"
        for what, value, least in (
            ("processes", facts.max_processes, MIN_PROCESSES),
            ("open files", facts.max_files, MIN_FILES),
        )
        if value is not None and value < least
    ]
    if few:
        yield Finding(71, f"at most {' and '.join(few)} are allowed")
