# SPDX-License-Identifier: Apache-2.0
"""Grid Engine as a site's batch system: qmaster and execd on one host, one queue `batch`.

`accounting_flush_time` keeps its default: a job is gone from qstat up to 15 s before qacct knows its exit status, and
that is how sites are.
"""

from __future__ import annotations

import re

from tests.lab.host import Host
from tests.lab.process import wait_for

ROOT = "/var/lib/gridengine"
SPOOL = "/var/spool/gridengine"
ADMIN = "sgeadmin"  # the only account that may configure; root may not
QUEUE = "batch"
SLOTS = 64
PID_FILES = (f"{SPOOL}/qmaster/qmaster.pid", "/run/gridengine/execd.pid")
READY_DEADLINE_S = 40.0

# The new-queue template names all three, and a queue cannot name one that does not exist.
_PARALLEL_ENVIRONMENTS = ("make", "mpi", "smp")
_PARALLEL_ENVIRONMENT = f"""\
pe_name {{name}}
slots {SLOTS}
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves FALSE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""
_QUEUE_ATTRIBUTES = {
    "hostlist": "@allhosts",
    "slots": str(SLOTS),
    "pe_list": " ".join(_PARALLEL_ENVIRONMENTS),
    # The template's shell is csh, which no host here has.
    "shell": "/bin/bash",
    "shell_start_mode": "unix_behavior",
    "load_thresholds": "NONE",
}
# Tests wait for these.
_SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def start(host: Host) -> None:
    """Start the daemons, make the queue, and wait until it takes jobs.

    Raises:
        LabError: a command failed, or at the deadline; with the end of the qmaster's log.
    """
    # The package fills the cell at its installation, all but the name of the qmaster's host.
    host.write_file(f"{ROOT}/default/common/act_qmaster", f"{host.name}\n", f"{ADMIN}:{ADMIN}")
    host.run(["/etc/init.d/gridengine-master", "start"])
    messages = f"{SPOOL}/qmaster/messages"

    def answers() -> bool:
        return host.run(["qconf", "-sh"], user=ADMIN, check=False).returncode == 0

    wait_for("Grid Engine qmaster", answers, READY_DEADLINE_S, lambda: host.read_file(messages))
    _configure(host)
    host.run(["/etc/init.d/gridengine-exec", "start"])

    def ready() -> bool:
        # A queue instance without a state (au: not heard of yet) has an empty sixth column.
        lines = host.run(["qstat", "-f"], user=ADMIN, check=False).stdout.splitlines()
        return any(line.startswith(f"{QUEUE}@") and len(line.split()) == 5 for line in lines)

    wait_for("Grid Engine queue", ready, READY_DEADLINE_S, lambda: host.read_file(messages))


def _configure(host: Host) -> None:
    """Register the host, make the parallel environments and the queue, quicken the scheduler."""

    def qconf(*args: str) -> str:
        return host.run(["qconf", *args], user=ADMIN, env={"EDITOR": "/bin/true"}).stdout

    def from_file(option: str, text: str) -> None:
        path = f"/tmp/{option.lstrip('-')}"
        host.write_file(path, text, f"{ADMIN}:{ADMIN}")
        qconf(option, path)

    qconf("-as", host.name)
    from_file("-Ahgrp", f"group_name @allhosts\nhostlist {host.name}\n")
    for name in _PARALLEL_ENVIRONMENTS:
        from_file("-Ap", _PARALLEL_ENVIRONMENT.format(name=name))
    qconf("-aq", QUEUE)
    for attribute, value in _QUEUE_ATTRIBUTES.items():
        qconf("-rattr", "queue", attribute, value, QUEUE)
    scheduler = qconf("-ssconf")
    for key, value in _SCHEDULER.items():
        scheduler = re.sub(rf"(?m)^({key}\s+).*$", rf"\g<1>{value}", scheduler)
    from_file("-Msconf", scheduler)
