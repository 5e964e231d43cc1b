# SPDX-License-Identifier: Apache-2.0
"""HTCondor as a site's batch system: a whole pool, run by root, on one host."""

from __future__ import annotations

from tests.lab.host import Host
from tests.lab.process import wait_for

PID_FILE = "/run/condor/master.pid"
READY_DEADLINE_S = 40.0

_CONFIG = """\
CONDOR_HOST={name}
DAEMON_LIST=MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
COLLECTOR_NAME={name}
use security:recommended_v9_0
SLOT_TYPE_1=100%
SLOT_TYPE_1_PARTITIONABLE=True
NUM_SLOTS_TYPE_1=1
NUM_CPUS=16
MEMORY=16000
START=True
SUSPEND=False
PREEMPT=False
NEGOTIATOR_INTERVAL=3
NEGOTIATOR_MIN_INTERVAL=1
NEGOTIATOR_CYCLE_DELAY=1
SCHEDD_INTERVAL=5
"""
# Made by tmpfiles.d and the unit on a real host; missing, condor_master waits in silence.
_DIRS = ("/run/condor", "/var/lock/condor", "/var/lib/condor/execute", "/var/lib/condor/spool", "/var/log/condor")


def start(host: Host) -> None:
    """Start the pool and wait for its slot and its schedd.

    Raises:
        LabError: at the deadline; with the end of the master's log.
    """
    host.write_file("/etc/condor/config.d/90-lab", _CONFIG.format(name=host.name))
    host.make_dirs(*_DIRS, owner="condor")
    host.run(["condor_master", "-pidfile", PID_FILE])

    def ready() -> bool:
        known = host.run(["condor_status", "-any", "-af", "MyType"], check=False).stdout.split()
        return {"Machine", "Scheduler", "Negotiator"} <= set(known)

    wait_for("HTCondor pool", ready, READY_DEADLINE_S, lambda: host.read_file("/var/log/condor/MasterLog"))
