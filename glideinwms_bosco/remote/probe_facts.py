# SPDX-License-Identifier: Apache-2.0
"""What scripts/probe.sh and probe_login.sh have told about an account, as a frozen value. Pure.

An answer that is missing or makes no sense leaves its fact unknown: the rest of the report is still worth having.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.batch.probing import Answer, count_of
from glideinwms_bosco.remote.messages import Reply, one_line

_LIBC = re.compile(r"\d{1,3}(?:\.\d{1,4}){1,2}")
_TIME = re.compile(r"\d{9,12}(?:\.\d{1,9})?")
_UMASK = re.compile(r"[0-7]{1,4}")
_VERSION = re.compile(r"OpenSSH_(\d{1,3})\.(\d{1,3})")
_LOGIN = re.compile(r"complete|reads|no-bash|ended \d{1,3}")
_USED = re.compile(r"(\d{1,18})\*?")
_JOB = ("refused", "waits", "ended", "back", "no-folder")
SESSIONS_WANTED = 10
MAX_NOISE_CHARS = 2000  # looked at; there may be megabytes
MAX_GROUPS_CHARS = 4000
_QUOTA_COLUMNS = 9  # of `quota -w -p`: file system; used, soft, hard, grace in kB; the same in files


@dataclass(frozen=True)
class Quota:
    """A row of quota(1): what is used, soft and hard limit, each as (kB, files); 0 stands for no limit."""

    file_system: str
    used: tuple[int, int]
    soft: tuple[int, int]
    hard: tuple[int, int]


@dataclass(frozen=True)
class JobResult:
    """What became of the test job.

    Attributes:
        outcome: "none" (no job was to be submitted, or nothing got so far), "no-folder", "refused", "waits" (had not
            ended at the deadline), "ended" (without a result) or "back".
        says: the last words of the batch system about it.
        result: lines the job has written: the token, host name, architecture, libc.
    """

    outcome: str = "none"
    says: tuple[str, ...] = ()
    result: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccountFacts:
    """An account on a login node. Texts of the other machine are safe to show.

    Attributes:
        account, groups, node, home, place: user, its groups, host name, home and install folder (the home before the
            first deploy).
        architecture, kernel, system, libc, shell, python: None when it does not tell, or there is none.
        missing_tools, missing_commands: programs the deploy needs; batch commands a login shell does not find.
        noise, profile_noise: first text that a shell prints for a command over ssh, and that `bash -l -c` prints.
        login: "complete", "reads" (the profile takes the input), "no-bash", or "ended STATUS"; "" when not told.
        umask: of a login shell.
        max_processes, max_files, max_cpu_s: soft limits; None for no limit or not told.
        tmp: "runs", "noexec", "none" (cannot be written), or "" when not told.
        free_kb, size_kb, free_inodes: of the install folder's file system.
        write_trouble: why nothing can be written there, or "".
        quotas: with a limit.
        sshd_version: as OpenSSH says, None when not told; `sshd_numbers` holds (major, minor).
        sshd_settings: what the readable configuration says, in lower case -> value; the first one counts.
        sshd_hidden: parts of the configuration cannot be read.
        clock_offset_s: bounds of (its clock - ours), in seconds, or None.
        answers: of the batch system.
    """

    account: str
    groups: tuple[str, ...]
    node: str
    home: str
    place: str
    architecture: Optional[str]
    kernel: Optional[str]
    system: Optional[str]
    libc: Optional[str]
    shell: Optional[str]
    python: Optional[str]
    missing_tools: tuple[str, ...]
    missing_commands: tuple[str, ...]
    noise: str
    profile_noise: str
    login: str
    umask: Optional[int]
    max_processes: Optional[int]
    max_files: Optional[int]
    max_cpu_s: Optional[int]
    tmp: str
    free_kb: Optional[int]
    size_kb: Optional[int]
    free_inodes: Optional[int]
    write_trouble: str
    quotas: tuple[Quota, ...]
    sshd_version: Optional[str]
    sshd_settings: Mapping[str, str]
    sshd_hidden: bool
    clock_offset_s: Optional[tuple[float, float]]
    answers: Mapping[str, Answer]
    job: JobResult

    @property
    def sshd_numbers(self) -> Optional[tuple[int, int]]:
        """(major, minor) of OpenSSH there, or None."""
        found = _VERSION.match(self.sshd_version or "")
        return (int(found.group(1)), int(found.group(2))) if found else None


@dataclass(frozen=True)
class SshFacts:
    """What trying has shown: whether a remote forwarding is given; how many sessions of SESSIONS_WANTED were.

    None: it could not be found out.
    """

    forwarding: Optional[bool] = None
    sessions: Optional[int] = None


def _first(reply: Reply, key: str) -> str:
    values = reply.values(key)
    return one_line(values[0]) if values else ""


def _of_form(pattern: re.Pattern[str], text: str) -> Optional[str]:
    return text if pattern.fullmatch(text) else None


def clock_offset(reply: Reply, sent_at: float, received_at: float) -> Optional[tuple[float, float]]:
    """Bounds of how far the clock there is ahead of ours, in seconds.

    The first reading was made after `sent_at`, the last before `received_at`; so how long the probe runs between them
    does not widen the bounds, only the time that the connection takes.

    Args:
        sent_at, received_at: our clock before the program was sent and after its answer was complete (s since 1970).
    """
    times = [value for value in reply.values("CLOCK") if _TIME.fullmatch(value)]
    if len(times) != 2:
        return None
    # A reading in whole seconds may be up to one second behind.
    whole = 0.0 if "." in times[0] else 1.0
    return float(times[1]) - received_at, float(times[0]) + whole - sent_at


def _answers(reply: Reply) -> dict[str, Answer]:
    said: dict[str, list[str]] = {}
    for value in reply.values("SAID"):
        key, _, text = value.partition(" ")
        said.setdefault(key, []).append(text)
    statuses = dict(value.partition(" ")[::2] for value in reply.values("STATUS"))
    keys = dict.fromkeys((*said, *statuses))
    return {key: Answer(count_of(statuses.get(key, "")), tuple(said.get(key, ()))) for key in keys}


def _quotas(reply: Reply) -> tuple[Quota, ...]:
    quotas = []
    for value in reply.values("QUOTA"):
        words = value.split()
        numbers = [_USED.fullmatch(word) for word in words[1:]]
        if len(words) != _QUOTA_COLUMNS or not all(numbers):
            continue
        n = [int(found.group(1)) for found in numbers if found]
        if any(n[1:3] + n[5:7]):
            quotas.append(Quota(one_line(words[0]), (n[0], n[4]), (n[1], n[5]), (n[2], n[6])))
    return tuple(quotas)


def _limits(reply: Reply) -> dict[str, Optional[int]]:
    return {key: count_of(value) for key, _, value in (text.partition(" ") for text in reply.values("LIMIT"))}


def _sshd_settings(reply: Reply) -> dict[str, str]:
    settings: dict[str, str] = {}
    for line in reply.values("SSHD-SETTING"):
        key, _, value = one_line(line).replace("=", " ").partition(" ")
        settings.setdefault(key.lower(), value.strip())
    return settings


def _login(reply: Reply) -> str:
    return next((value for value in reply.values("LOGIN") if _LOGIN.fullmatch(value)), "")


def _job(reply: Reply) -> JobResult:
    outcome = _first(reply, "JOB")
    if outcome not in _JOB:
        return JobResult()
    says = tuple(one_line(line) for line in reply.values("JOB-SAYS") if line.strip())
    return JobResult(outcome, says, tuple(one_line(line) for line in reply.values("JOB-RESULT")))


def parse_probe(reply: Reply, sent_at: float, received_at: float) -> AccountFacts:
    """Read the answer of scripts/probe.sh; see `clock_offset` for the times."""
    umask = _of_form(_UMASK, _first(reply, "UMASK"))
    limits = _limits(reply)
    write = _first(reply, "WRITE")
    return AccountFacts(
        account=_first(reply, "ACCOUNT"),
        groups=tuple(one_line(" ".join(reply.values("GROUPS")), MAX_GROUPS_CHARS).split()),
        node=_first(reply, "NODE"),
        home=_first(reply, "HOME"),
        place=_first(reply, "PLACE"),
        architecture=_first(reply, "ARCH") or None,
        kernel=_first(reply, "KERNEL") or None,
        system=_first(reply, "SYSTEM") or None,
        libc=_of_form(_LIBC, _first(reply, "LIBC")),
        shell=_first(reply, "SHELL") or None,
        python=_of_form(_LIBC, _first(reply, "PYTHON")),
        missing_tools=tuple(map(one_line, reply.values("NO-TOOL"))),
        missing_commands=tuple(map(one_line, reply.values("NO-COMMAND"))),
        noise=one_line(reply.noise[:MAX_NOISE_CHARS]),
        profile_noise=one_line(" ".join(reply.values("PROFILE-NOISE"))),
        login=_login(reply),
        umask=None if umask is None else int(umask, 8),
        max_processes=limits.get("processes"),
        max_files=limits.get("files"),
        max_cpu_s=limits.get("cpu"),
        tmp=_first(reply, "TMP"),
        free_kb=count_of(_first(reply, "FREE-KB")),
        size_kb=count_of(_first(reply, "SIZE-KB")),
        free_inodes=count_of(_first(reply, "FREE-INODES")),
        write_trouble="" if write == "ok" else write or "it did not tell",
        quotas=_quotas(reply),
        sshd_version=_first(reply, "SSHD") or None,
        sshd_settings=_sshd_settings(reply),
        sshd_hidden=bool(reply.values("SSHD-UNREADABLE")),
        clock_offset_s=clock_offset(reply, sent_at, received_at),
        answers=_answers(reply),
        job=_job(reply),
    )
