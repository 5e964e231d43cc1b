# SPDX-License-Identifier: Apache-2.0
"""Which services run on which host, and the order in which they start."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Callable

from tests.lab import condor_pool, factory, firewall, gridengine, slurm, sshd
from tests.lab.host import Host
from tests.lab.settings import CLOSED_PROFILE, LOGIN_NODES, WORKERS
from tests.lab.steps import Steps, together

NODE_FAULTS = Path(__file__).with_name("node_faults.sh")
_MUNGED = "/run/munge/munged.pid"
# host -> pid files of the daemons that must live for it to count as up
DAEMONS: dict[str, tuple[str, ...]] = {
    "factory": (factory.PID_FILE,),
    "login": (_MUNGED, slurm.CONTROLLER_PID_FILE, sshd.PID_FILE),
    "outside": (sshd.PID_FILE,),
    **dict.fromkeys(WORKERS, (_MUNGED, slurm.NODE_PID_FILE)),
    "login-condor": (condor_pool.PID_FILE, sshd.PID_FILE),
    "login-sge": (*gridengine.PID_FILES, sshd.PID_FILE),
    "login-old": (sshd.PID_FILE,),
    "login-oldest": (sshd.PID_FILE,),
    "login2": (_MUNGED, sshd.PID_FILE),
}
# extra host -> what runs there beside sshd
_BATCH_SYSTEMS: dict[str, Callable[[Host], None]] = {
    "login-condor": condor_pool.start,
    "login-sge": gridengine.start,
    "login2": slurm.start_client,
}


def dead_daemons(host: Host) -> list[str]:
    """Return the pid files of a host's daemons that do not run."""
    return [pid_file for pid_file in DAEMONS.get(host.name, ()) if not host.daemon_runs(pid_file)]


def start_base(hosts: Mapping[str, Host], steps: Steps) -> None:
    """Start everything on the base hosts and wait until Slurm and HTCondor take jobs.

    Raises:
        LabError: a step failed.
    """
    with steps.step("keys"):
        keys = sshd.make_keys(hosts["factory"])
    with steps.step("services"):
        together(
            [
                partial(factory.start, hosts["factory"]),
                partial(slurm.start_controller, hosts["login"]),
                *(partial(slurm.start_node, hosts[worker]) for worker in WORKERS),
                partial(sshd.start, hosts["login"], keys),
                partial(sshd.start, hosts["outside"], keys),
            ]
        )
    with steps.step("Slurm ready"):
        slurm.wait_ready(hosts["login"])
    with steps.step("HTCondor ready"):
        factory.wait_ready(hosts["factory"])


def start_profile(hosts: Mapping[str, Host], profile: str, steps: Steps) -> None:
    """Do what a profile has beside its hosts: close the site.

    Raises:
        LabError: a step failed.
    """
    if profile == CLOSED_PROFILE:
        with steps.step("firewall of the site"):
            together(partial(firewall.close_login, hosts[name]) for name in LOGIN_NODES)
            together(partial(firewall.close_worker, hosts[name]) for name in WORKERS)


def start_extra(host: Host, factory_host: Host, steps: Steps) -> None:
    """Start the firewall, sshd and the batch system of an extra host, as far as it has them.

    Raises:
        LabError: a step failed.
    """
    if host.spec.closed:
        with steps.step("firewall"):
            firewall.close(host)
    if host.spec.faults:
        with steps.step("faults"):
            host.sh(NODE_FAULTS.read_text(), *host.spec.faults)
    if host.spec.accounts:
        with steps.step("sshd"):
            sshd.start(host, sshd.public_keys(factory_host))
    if host.name in _BATCH_SYSTEMS:
        with steps.step("batch system"):
            _BATCH_SYSTEMS[host.name](host)
