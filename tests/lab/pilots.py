# SPDX-License-Identifier: Apache-2.0
"""Real pilots: an entry as gwms-bosco renders it, started on a node, with a startd that joins the Global Pool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tests.lab import global_pool
from tests.lab.lab import Lab
from tests.lab.operator import USER
from tests.lab.process import wait_for
from tests.lab.settings import CHECKOUT_IN_HOST, HOST_PATH, LabError

ACCOUNT = "pilot"
SHARED = "/shared/lab"
"""The cluster's shared folder, as all nodes see it."""
STANDINS = "/shared/standins"
HTCONDOR = "/shared/lab-htcondor"
CONTRACT = "/srv/contract"
"""On the factory: glideinWMS's functions that scripts call, the real ones or what stands for them."""
ARCHIVES = f"/home/{USER}/archives"
"""On the factory."""
SCRATCH = "/scratch/pilot"
SCRIPTS = f"{CHECKOUT_IN_HOST}/tests/lab"
GLIDEIN = f"{SCRIPTS}/standin_glidein.sh"
_FACTORY = Path(__file__).with_name("standin_factory.py")
NAME_ATTRIBUTE = "GLIDEIN_Lab_Pilot"
LIFE_S = 600
IDLE_S = 300
JOIN_DEADLINE_S = 45.0
END_DEADLINE_S = 40.0
_PIPE_DEADLINE_S = 60.0
_DETACH = 'pid=$1; shift; setsid -f "$@" </dev/null >/dev/null 2>&1; until [ -s "$pid" ]; do sleep 0.05; done'
_START = 'umask 022; cd "$1" && echo $$ >"$2.pid" && exec 3>"$2.out" && shift 2 && exec "$@" >&3 2>&1 3>&-'


def send_tree(lab: Lab, source: tuple[str, str], target: tuple[str, str], names: Sequence[str] = (".",)) -> None:
    """Copy what is in a folder of one host, (host, path), into a folder of another.

    Raises:
        LabError: it cannot be copied.
    """
    _send(lab, lab.host(source[0]).entry_argv(["tar", "-C", source[1], "-cf", "-", *names]), *target)


def bring_tree(lab: Lab, folder: str, target: tuple[str, str], names: Sequence[str] = (".",)) -> None:
    """Copy what is in a folder of this machine to a folder of a host, (host, path).

    Raises:
        LabError: it cannot be copied.
    """
    _send(lab, ["tar", "-C", folder, "-cf", "-", *names], *target)


def _send(lab: Lab, packing: Sequence[str], target: str, folder: str) -> None:
    lab.run(target, ["mkdir", "-p", folder])
    unpacking = lab.host(target).entry_argv(["tar", "-C", folder, "-xf", "-"])
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as packed:
        unpacked = subprocess.run(unpacking, stdin=packed.stdout, timeout=_PIPE_DEADLINE_S, check=False)
    if packed.returncode or unpacked.returncode:
        raise LabError(f"cannot send to {target}:{folder}")


def provide_htcondor(lab: Lab) -> None:
    """Put what pilots need of the lab's HTCondor where all nodes see it, as a download would."""
    packing = lab.host(global_pool.HOST).entry_argv(["sh", f"{SCRIPTS}/pack_htcondor.sh", HTCONDOR])
    _send(lab, packing, "login", HTCONDOR)


@dataclass(frozen=True)
class PilotEntry:
    """An entry as it is rendered.

    Attributes:
        name: the entry's.
        archive: what its pilots bring along, as nodes see it.
        submission: what the factory submits them with, see standin_factory.
    """

    name: str
    archive: str
    submission: Mapping[str, Any]


def bring_entry(lab: Lab, xml: str, name: str, period_s: Optional[int] = None) -> PilotEntry:
    """Make an archive of an entry in a rendered file, and bring it to the nodes.

    Args:
        period_s: how often its periodic scripts run; None: as the entry says.
    """
    lab.run("factory", ["mkdir", "-p", ARCHIVES], user=USER)
    archive = f"{ARCHIVES}/{name}.tar.gz"
    # From standard input: the host need not see the checkout.
    argv = ["python3", "-", xml, name, archive, CONTRACT]
    argv += [str(period_s)] if period_s else []
    said = lab.run("factory", argv, user=USER, input=_FACTORY.read_text(encoding="utf-8")).stdout
    send_tree(lab, ("factory", ARCHIVES), ("login", SHARED), [f"{name}.tar.gz"])
    return PilotEntry(name, f"{SHARED}/{name}.tar.gz", json.loads(said))


def provide_token(lab: Lab) -> str:
    """A token for pilots where all nodes see it; its path."""
    lab.run("login", ["mkdir", "-p", SHARED])
    lab.write_file("login", f"{SHARED}/token", global_pool.token(lab), f"{ACCOUNT}:{ACCOUNT}", 0o600)
    return f"{SHARED}/token"


def glidein_args(entry: PilotEntry, name: str, life_s: int = LIFE_S, idle_s: int = IDLE_S) -> list[str]:
    """The arguments of standin_glidein.sh."""
    return [entry.archive, f"{SHARED}/token", HTCONDOR, name, str(life_s), str(idle_s)]


@dataclass(frozen=True)
class Pilot:
    """A pilot, by the name in its machine ad."""

    lab: Lab
    name: str

    def ad(self, *attributes: str) -> Optional[dict[str, Any]]:
        """Attributes of its machine ad; None when the pool does not know it."""
        argv = ["condor_status", "-constraint", f'{NAME_ATTRIBUTE}=="{self.name}" && SlotType=!="Dynamic"', "-json"]
        argv += ["-attributes", ",".join(attributes or (NAME_ATTRIBUTE,))]
        text = self.lab.run(global_pool.HOST, argv, user=global_pool.USER, env=global_pool.ENV).stdout
        found: list[dict[str, Any]] = json.loads(text or "[]")
        return found[0] if found else None

    def await_joined(self) -> None:
        """Wait until the pool knows it."""
        wait_for(f"pilot {self.name} in the pool", lambda: self.ad() is not None, JOIN_DEADLINE_S, self.output)

    def output(self) -> str:
        """What it has printed so far."""
        return ""


@dataclass(frozen=True)
class NodePilot(Pilot):
    """A pilot started on a node as a batch system would, in a folder of its own."""

    node: str

    @property
    def folder(self) -> str:
        return f"{SCRATCH}/{self.name}"

    def output(self) -> str:
        return self.lab.run(self.node, ["cat", f"{self.folder}.out"], check=False).stdout

    def pid(self) -> str:
        """Its process number on the node."""
        return self.lab.read_file(self.node, f"{self.folder}.pid").strip()

    def signal(self, name: str) -> None:
        """Send it a signal."""
        self.lab.run(self.node, ["kill", f"-{name}", self.pid()])

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self.lab.run(self.node, ["test", "-d", f"/proc/{self.pid()}"], check=False).returncode == 0

    def await_end(self) -> None:
        """Wait until it has ended by itself."""
        wait_for(f"end of pilot {self.name}", lambda: not self.alive(), END_DEADLINE_S, self.output)

    def end(self) -> None:
        """Have it end at once, as glideinWMS does: QUIT to condor_master."""
        if self.alive():
            self.signal("QUIT")
        self.await_end()

    def left(self) -> list[str]:
        """What is still there of it: files in its folder, mounts and processes with its folder in their name."""
        script = 'find "$1" -mindepth 1 | head; grep -F "$1/" /proc/self/mountinfo; pgrep -af "$1/" -u pilot'
        return self.lab.run(self.node, ["sh", "-c", script, "sh", self.folder], check=False).stdout.splitlines()


def start_pilot(
    lab: Lab,
    node: str,
    entry: PilotEntry,
    name: str,
    *,
    path: str = HOST_PATH,
    without: Sequence[str] = (),
    life_s: int = LIFE_S,
    idle_s: int = IDLE_S,
) -> NodePilot:
    """Start a pilot on a node.

    Args:
        path: its PATH.
        without: variables that it does not get.
    """
    pilot = NodePilot(lab, name, node)
    lab.run(node, ["install", "-d", "-o", ACCOUNT, "-g", ACCOUNT, pilot.folder])
    unset = [word for variable in without for word in ("-u", variable)]
    argv = ["bash", GLIDEIN, *glidein_args(entry, name, life_s, idle_s), pilot.folder]
    inner = ["sh", "-c", _START, "sh", pilot.folder, pilot.folder, "env", *unset, f"PATH={path}", *argv]
    # Not by a shell's `&`, which has SIGINT and SIGQUIT ignored for ever.
    outer = ["sh", "-c", _DETACH, "sh", f"{pilot.folder}.pid", *inner]
    lab.run(node, outer, user=ACCOUNT)
    return pilot
