# SPDX-License-Identifier: Apache-2.0
"""Judge what a probe has learnt of the batch system and of the test job. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from glideinwms_bosco.batch.probing import NO_FOLDER, NO_INPUT, NO_OUTPUT, BatchFacts, Queue
from glideinwms_bosco.remote.messages import one_line
from glideinwms_bosco.remote.probe_codes import Finding
from glideinwms_bosco.remote.probe_facts import AccountFacts
from glideinwms_bosco.remote.probe_wishes import Demand, Wishes

MIN_KEEPS_ENDED_S = 60  # the gridmanager asks once a minute


def find_batch(facts: AccountFacts, batch: BatchFacts, wishes: Wishes) -> Iterator[Finding]:
    """What is wrong with the batch system, or with what the entries ask of it."""
    if facts.missing_commands:
        yield Finding(50, f"a login shell does not find {', '.join(facts.missing_commands)}")
    if not batch.answers:
        if not facts.missing_commands:
            yield Finding(51, f"{wishes.system.name} says: {one_line(batch.trouble) or 'nothing'}")
        return
    yield from _queues(batch, wishes)
    projects = dict.fromkeys(demand.request.project for demand in wishes.demands if demand.request.project)
    for project in projects:
        if batch.projects is not None and project not in batch.projects:
            yield Finding(55, f"project {project} is not among the account's: {', '.join(batch.projects)}")
    glideins = sum(demand.glideins or 0 for demand in wishes.demands)
    if batch.max_queued is not None and glideins > batch.max_queued:
        yield Finding(57, f"the entries allow {glideins} pilots, the account may queue {batch.max_queued} jobs")
    if batch.accounting is False:
        yield Finding(61, f"{wishes.system.name} keeps no record of ended jobs")
        if batch.keeps_ended_s is not None and batch.keeps_ended_s < MIN_KEEPS_ENDED_S:
            yield Finding(62, f"an ended job is forgotten after {batch.keeps_ended_s} s")
    for what in batch.lacks:
        yield Finding(63, f"not found: {what}")


def _queues(batch: BatchFacts, wishes: Wishes) -> Iterator[Finding]:
    if batch.queues is None:
        return
    seen: set[str] = set()
    for demand in wishes.demands:
        wanted = demand.request.queue
        names = (None,) if wanted is None else wishes.system.probe_queue_names(wanted)
        for name in names:
            queue = batch.queue(name)
            if queue is not None:
                found = tuple(_queue(queue, demand))
            else:
                have = ", ".join(q.name for q in batch.queues)
                found = () if name is None else (Finding(52, f"there is no queue {name}; there is: {have[:200]}"),)
            for finding in found:
                if finding.message not in seen:
                    seen.add(finding.message)
                    yield finding


def _queue(queue: Queue, demand: Demand) -> Iterator[Finding]:
    if not queue.accepts:
        yield Finding(53, f"queue {queue.name}: {queue.note}")
    project = demand.request.project
    if queue.usable is False:
        yield Finding(54, f"the account has no access to queue {queue.name}")
    elif queue.projects is not None and project is not None and project not in queue.projects:
        yield Finding(54, f"project {project} may not use queue {queue.name}")
    walltime, limit = demand.request.walltime_s, queue.max_walltime_s
    if walltime is not None and limit is not None and walltime > limit:
        yield Finding(56, f"entry {demand.entry} asks for {walltime} s, queue {queue.name} gives {limit} s")


def find_job(facts: AccountFacts, wishes: Wishes, blocked: bool) -> Iterator[Finding]:
    """What became of the test job; `blocked`: another finding says already why the batch system refuses it."""
    outcome, says = facts.job.outcome, facts.job.says
    state = wishes.system.probe_job_state(says)
    if outcome == "refused" and not blocked:
        yield Finding(58, f"{wishes.system.name} says: {one_line(' '.join(says[-3:])) or 'nothing'}")
    elif outcome == "waits":
        reason = f" ({state.reason})" if state.reason else ""
        yield Finding(60, f"the test job waited in the queue until it was taken back{reason}")
    elif outcome == "ended":
        yield _unshared(facts, wishes, state.exit_code, state.reason)
    elif outcome in ("none", "no-folder"):
        yield Finding(80, "not found out: whether workers have the home")
    elif outcome == "back" and facts.job.result[:1] != (wishes.job_token,):
        yield Finding(59, "the test job brought back something else than it was given")


def _unshared(facts: AccountFacts, wishes: Wishes, code: Optional[int], reason: str) -> Finding:
    if code is None and reason:
        return Finding(59, f"the test job ended without a result: {reason}")
    if code not in (None, 0, NO_FOLDER, NO_INPUT, NO_OUTPUT):
        return Finding(59, f"the test job ended with {code}")
    why = {
        NO_FOLDER: "a folder made there does not exist on a worker",
        NO_INPUT: "a file written there is not there on a worker",
        NO_OUTPUT: "a worker cannot write there",
    }.get(code or 0, "what a job wrote there on a worker did not show up")
    if wishes.system.needs_shared_home:
        return Finding(23, f"{facts.place}: {why}")
    return Finding(80, f"{facts.place}: {why}; {wishes.system.name} moves the files itself")
