# SPDX-License-Identifier: Apache-2.0
"""What a probe of a login node asks a batch system, and what it learns: questions, answers, facts, the test job."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

SCRIPT_DIR = "@DIR@"
"""Stands in `JobPlan.text` for the folder that holds the job script `job`."""
JOB_ID = "@ID@"
"""Stands in `JobPlan.state` and `JobPlan.cancel` for the job's id."""
JOB_NAME = "gwms-bosco-probe"
JOB_MINUTES = 5
NO_FOLDER, NO_INPUT, NO_OUTPUT = 81, 82, 83
"""Exit codes of the test job: the folder is not there, what was written there is not, it cannot write there."""
NOT_FOUND = 127
"""Exit status of a shell for a command that is not there. Source: POSIX, 2.8.2 Exit Status for Commands."""

_CLOCK = re.compile(r"(?:(?:(\d{1,6})-)?(\d{1,6}):)?(\d{1,6}):(\d{1,2})(?:\.\d+)?")
_DAYS_HOURS = re.compile(r"(\d{1,6})-(\d{1,2})")
_COUNT = re.compile(r"\d{1,12}")


@dataclass(frozen=True)
class Question:
    """A command to run on the login node, in the environment of a login shell."""

    key: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a command said, standard output and error together; `status` None when it was cut off."""

    status: Optional[int] = None
    lines: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the command ended with 0."""
        return self.status == 0

    @property
    def first(self) -> str:
        """The first line that says something."""
        return next((line.strip() for line in self.lines if line.strip()), "")


NO_ANSWER = Answer()


@dataclass(frozen=True)
class Queue:
    """A queue or partition.

    Attributes:
        accepts: it takes and starts jobs at present; `note` says what it is otherwise.
        default: where jobs go that name none.
        usable: whether the account may use it; None when that is not known.
        max_walltime_s: None: no limit, or not known.
        projects: who may use it; None: every project.
    """

    name: str
    accepts: bool = True
    note: str = ""
    default: bool = False
    usable: Optional[bool] = None
    max_walltime_s: Optional[int] = None
    projects: Optional[tuple[str, ...]] = None


@dataclass(frozen=True)
class BatchFacts:
    """What is known of a batch system; None stands for what it did not tell.

    Attributes:
        answers: whether it answers at all; `trouble` is what it says otherwise.
        version: as it says.
        queues: all that there are.
        projects: those the account may charge; None also when it charges none.
        max_queued: jobs that the account may have in the queue.
        accounting: whether ended jobs can be asked for their exit code.
        keeps_ended_s: how long an ended job can be asked for without accounting.
        lacks: what HTCondor's scripts for it need and the login node does not have.
    """

    answers: bool = True
    trouble: str = ""
    version: str = ""
    queues: Optional[tuple[Queue, ...]] = None
    projects: Optional[tuple[str, ...]] = None
    max_queued: Optional[int] = None
    accounting: Optional[bool] = None
    keeps_ended_s: Optional[int] = None
    lacks: tuple[str, ...] = ()

    def queue(self, name: Optional[str]) -> Optional[Queue]:
        """The queue of that name, or the default one for None."""
        return next((q for q in self.queues or () if (q.default if name is None else q.name == name)), None)


@dataclass(frozen=True)
class JobPlan:
    """How to submit the test job, watch it and take it back.

    Attributes:
        submit: command; the job script, or `text` if it is not empty, is its standard input.
        id_pattern: basic regular expression for one line of the answer; its first group is the job's id.
        state: command whose answer matches the extended regular expression `alive` until the job has ended.
        cancel: command.
        decided: extended regular expression for an answer of `state` that says that the job left no result.
        text: lines of a submit description.
    """

    submit: tuple[str, ...]
    id_pattern: str
    state: tuple[str, ...]
    alive: str
    cancel: tuple[str, ...]
    decided: str = ""
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobState:
    """What the batch system says of the test job; None where it says nothing."""

    exit_code: Optional[int] = None
    reason: str = ""


def seconds_of(text: str) -> Optional[int]:
    """`[[D-]H:]M:S`, `D-H` or a number of seconds; None for anything else, such as UNLIMITED or INFINITY."""
    if _COUNT.fullmatch(text):
        return int(text)
    found = _CLOCK.fullmatch(text)
    if found:
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    found = _DAYS_HOURS.fullmatch(text)
    return (int(found.group(1)) * 24 + int(found.group(2))) * 3600 if found else None


def count_of(text: str) -> Optional[int]:
    """A plain decimal number, or None."""
    return int(text) if _COUNT.fullmatch(text) else None


def blocks(lines: Iterable[str], start: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Split a listing at the lines that match `start` (its first group names the block): (name, lines of the block)."""
    name, body = "", list[str]()
    for line in lines:
        found = re.match(start, line)
        if found:
            if name:
                yield name, tuple(body)
            name, body = found.group(1), []
        body.append(line)
    if name:
        yield name, tuple(body)


def answer_of(answers: Mapping[str, Answer], key: str) -> Answer:
    """The answer to a question; an empty one when it was never asked."""
    return answers.get(key, NO_ANSWER)
