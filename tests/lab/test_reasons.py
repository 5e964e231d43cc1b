# SPDX-License-Identifier: Apache-2.0
"""What HTCondor says when the remote side is broken, word for word as docs/troubleshooting.md has it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import STATE, USER, key_of
from tests.lab.sites import LabSite
from tests.lab.waiting import await_no_gahp, await_true
from tests.pages import DOCS

HOME = "/shared/pilot/bosco-reasons"
KNOWN_HOSTS = f"{STATE}/ssh/known_hosts"
# Of nobody in the lab.
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMYNKPxmEnuJCLoCNCxWXycyHbJb7avjYh20jlBM/ShM"
DEADLINE_S = 60.0
HELD, IDLE = "held", "idle"
_numbers = itertools.count(1)
_SUBMIT = """\
universe = grid
grid_resource = batch slurm {target} --rgahp-key {key} --rgahp-nopass --rgahp-glite ~/{folder}/glite
executable = /bin/true
transfer_executable = false
log = log
{more}
queue
"""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with the remote side.

    Attributes:
        outcome: held or idle.
        words: parts of the reason, all of which the page has in one row; none: the remote side is down without one.
        host, broken, mended: where and how to break it and mend it, as root.
        key, target, folder, more: of the submit file.
    """

    name: str
    outcome: str
    words: tuple[str, ...]
    host: str = "login"
    broken: str = "true"
    mended: str = "true"
    key: str = key_of("pilot")
    target: str = "pilot@login"
    folder: str = "bosco-reasons"
    more: str = ""


SSHD_CONF = "/etc/ssh/sshd_config.d/reasons.conf"
RELOAD = "pkill -HUP -o -x sshd && until nc -z localhost 22; do sleep 0.1; done"
FAULTS = (
    Fault(
        "queue", HELD, ("submission command failed (exit code = 1)", "Invalid partition name specified"),
        more="batch_queue = nosuch",
    ),
    Fault(
        "submit-script", HELD,
        ("submission command failed (exit code = 2)", "_submit.sh: No such file or directory"),
        broken=f"mv {HOME}/glite/libexec/slurm_submit.sh {HOME}/kept",
        mended=f"mv {HOME}/kept {HOME}/glite/libexec/slurm_submit.sh",
    ),
    Fault(
        "sandbox", HELD, ("Failed to create sandbox",),
        broken=f"mv {HOME}/sandbox {HOME}/kept && install -d -m 0555 -o root {HOME}/sandbox",
        mended=f"rmdir {HOME}/sandbox && mv {HOME}/kept {HOME}/sandbox",
    ),
    Fault("key", IDLE, ("Permission denied (publickey)",), key=key_of("pilot2")),
    Fault("name", IDLE, ("Could not resolve hostname",), target="pilot@nowhere.example.org"),
    Fault(
        "host-key", IDLE, ("Host key verification failed.",), host="factory",
        broken=f"cp -p {KNOWN_HOSTS} /tmp/kept && echo 'login {OTHER_KEY}' > {KNOWN_HOSTS}",
        mended=f"cat /tmp/kept > {KNOWN_HOSTS}",
    ),
    Fault(
        "forwarding", IDLE, ("remote port forwarding failed for listen port",),
        broken=f"echo 'AllowTcpForwarding no' > {SSHD_CONF} && {RELOAD}", mended=f"rm {SSHD_CONF} && {RELOAD}",
    ),
    Fault("not-installed", IDLE, ("/glite/bin/blahpd: No such file or directory",), folder="nothing"),
    Fault(
        "library", IDLE, ("error while loading shared libraries",),
        broken=f"mv {HOME}/glite/lib {HOME}/kept", mended=f"mv {HOME}/kept {HOME}/glite/lib",
    ),
    Fault(
        "batch-commands", IDLE, (),
        broken=f"mv /usr/bin/squeue {HOME}/kept", mended=f"mv {HOME}/kept /usr/bin/squeue",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[LabSite]:
    made = LabSite("reasons")
    made.add(lab)
    made.deploy(lab)
    yield made
    await_no_gahp(lab)
    made.remove(lab)


@contextmanager
def broken(lab: Lab, fault: Fault) -> Iterator[None]:
    lab.run(fault.host, ["sh", "-c", fault.broken])
    try:
        yield
    finally:
        lab.run(fault.host, ["sh", "-c", fault.mended])


def submitted(lab: Lab, fault: Fault) -> str:
    """Submit a job as a factory would; its cluster."""
    folder = f"/home/{USER}/reason{next(_numbers)}"
    lab.run("factory", ["mkdir", folder], user=USER)
    fields = {"target": fault.target, "key": fault.key, "folder": fault.folder, "more": fault.more}
    lab.write_file("factory", f"{folder}/submit", _SUBMIT.format(**fields), f"{USER}:{USER}")
    done = lab.run("factory", ["sh", "-c", f"cd {folder} && condor_submit -terse submit"], user=USER)
    return done.stdout.split(".")[0]


def job(lab: Lab, cluster: str, *attributes: str) -> list[str]:
    """Attributes of the job, `undefined` where there is none."""
    done = lab.run("factory", ["condor_q", cluster, "-af:\t", *attributes], user=USER)
    return done.stdout.rstrip("\n").split("\t")


def resource_reason(lab: Lab, fault: Fault) -> str:
    """What the gridmanager's own ad says of the remote side."""
    name = f"batch slurm {fault.target} --rgahp-key {fault.key} --rgahp-nopass --rgahp-glite ~/{fault.folder}/glite"
    argv = ["condor_status", "-grid", "-constraint", f'HashName == "{name}"', "-af", "GridResourceUnavailableReason"]
    return lab.run("factory", argv, user=USER).stdout


def rows(outcome: str) -> list[str]:
    """Rows of the page's table for held, or for idle, jobs."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    head = "## Pilots are held" if outcome == HELD else "## Pilots stay idle, the remote side is down"
    return [line for line in text.partition(head)[2].partition("\n## ")[0].splitlines() if line.startswith("| `")]


def test_every_row_that_says_so_is_provoked() -> None:
    marked = {outcome: [row for row in rows(outcome) if re.search(r"` \* \|", row)] for outcome in (HELD, IDLE)}
    assert sum(map(len, marked.values())) == sum(bool(fault.words) for fault in FAULTS)
    for fault in FAULTS:
        if fault.words:
            assert any(all(f"`{word}`" in row for word in fault.words) for row in marked[fault.outcome]), fault.name


def _says(reason: str, words: tuple[str, ...]) -> bool:
    """Tell whether all words are in a reason; whether there is none, if there are no words."""
    return all(word in reason for word in words) if words else reason.strip() in ("undefined", "")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_reason_is_that_of_the_page(lab: Lab, site: LabSite, fault: Fault) -> None:  # noqa: ARG001 - installed
    await_no_gahp(lab)
    with broken(lab, fault):
        cluster = submitted(lab, fault)
        try:
            if fault.outcome == HELD:
                await_true(lambda: job(lab, cluster, "JobStatus") == ["5"], "the job is held", DEADLINE_S)
                (reason,) = job(lab, cluster, "HoldReason")
                assert _says(reason, fault.words), reason
            else:
                down = "GridResourceUnavailableTime =!= undefined"
                await_true(lambda: job(lab, cluster, down) == ["true"], "the remote side is down", DEADLINE_S)
                assert job(lab, cluster, "JobStatus") == ["1"]
                # What ssh says late comes with the next try.
                await_true(lambda: _says(resource_reason(lab, fault), fault.words), str(fault.words), DEADLINE_S)
        finally:
            lab.run("factory", ["condor_rm", cluster], user=USER, check=False)
