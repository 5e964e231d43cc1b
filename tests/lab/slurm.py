# SPDX-License-Identifier: Apache-2.0
"""A Slurm cluster without accounting: slurmctld on the login node, slurmd on the workers."""

from __future__ import annotations

from tests.lab.host import Host
from tests.lab.process import wait_for
from tests.lab.settings import BASE_HOSTS, WORKERS

CONTROLLER_PID_FILE = "/run/slurmctld.pid"
NODE_PID_FILE = "/run/slurmd.pid"
READY_DEADLINE_S = 30.0
CPUS_PER_WORKER = 64  # more than the machine has: SlurmdParameters=config_overrides
MEMORY_MB = 20000
CONTROLLER_PORT = 6817
SRUN_PORTS = "60001-60100"
"""Where srun and salloc listen on the login node."""

# linuxproc, no task plugin, no cgroup: there is no systemd and no delegated cgroup here.
_CONF = """\
ClusterName=lab
SlurmctldHost=login(10.77.1.1)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=slurm
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
UsePAM=0
MinJobAge=60
SrunPortRange={srun_ports}
"""
_PARTITION = "PartitionName=batch Nodes={nodes} Default=YES MaxTime=24:00:00 OverSubscribe=NO State=UP\n"
_MUNGED = (
    "install -d -o munge -g munge -m 755 /run/munge;setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged"
)


def _config() -> str:
    nodes = "".join(
        f"NodeName={name} NodeAddr={BASE_HOSTS[name].links[0].address} CPUs={CPUS_PER_WORKER}"
        f" RealMemory={MEMORY_MB} State=UNKNOWN\n"
        for name in WORKERS
    )
    return _CONF.format(srun_ports=SRUN_PORTS) + nodes + _PARTITION.format(nodes=",".join(WORKERS))


def _configure(host: Host) -> None:
    host.write_file("/etc/slurm/slurm.conf", _config())
    host.write_file("/etc/slurm/cgroup.conf", "CgroupPlugin=disabled\n")
    host.sh(_MUNGED)


def start_controller(login: Host) -> None:
    """Start munged and slurmctld."""
    _configure(login)
    login.sh("slurmctld")


def start_client(login: Host) -> None:
    """Start munged: users of another login node submit from it."""
    _configure(login)


def start_node(worker: Host) -> None:
    """Start munged and slurmd."""
    _configure(worker)
    worker.sh('slurmd -N "$1"', worker.name)


def wait_ready(login: Host) -> None:
    """Wait until both workers are idle.

    Raises:
        LabError: at the deadline; with the end of slurmctld's log.
    """

    def ready() -> bool:
        states = login.run(["sinfo", "-h", "-N", "-o", "%T"], check=False).stdout.split()
        return states == ["idle"] * len(WORKERS)

    wait_for("Slurm", ready, READY_DEADLINE_S, lambda: login.read_file("/var/log/slurm/slurmctld.log"))
