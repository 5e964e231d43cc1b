# SPDX-License-Identifier: Apache-2.0
"""The startd of a closed site's pilot, asked on its node: what the pool may not hear of."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab import global_pool
from tests.lab.lab import Lab
from tests.lab.pilots import ACCOUNT, NAME_ATTRIBUTE, SHARED, send_tree
from tests.lab.settings import LOGIN_NODES

_FOLDER = """\
find /shared/"$1" -path '*/glide_*/glidein_config' -exec grep -lx "$2" {} + | sed 's|/glidein_config$||'
"""


@dataclass(frozen=True)
class Startd:
    """That of the pilot of that name, on a node."""

    lab: Lab
    node: str
    name: str

    def folder(self) -> str:
        """The pilot's own folder, on the shared home."""
        argv = ["sh", "-c", _FOLDER, "sh", ACCOUNT, f"{NAME_ATTRIBUTE} {self.name}"]
        (found,) = self.lab.run(self.node, argv).stdout.splitlines()
        return found

    def slots(self, *attributes: str) -> list[list[str]]:
        """Attributes of its slots, evaluated; one list for each slot."""
        folder = self.folder()
        address = self.lab.read_file(self.node, f"{folder}/log/.startd_address").splitlines()[0]
        argv = [f"{SHARED}/condor_status", "-direct", address, "-af:,", *attributes]
        env = {"LD_LIBRARY_PATH": f"{folder}/condor/lib", "CONDOR_CONFIG": f"{folder}/condor_config"}
        lines = self.lab.run(self.node, argv, user=ACCOUNT, env=env).stdout.splitlines()
        return [line.split(", ") for line in lines]

    def log(self, name: str) -> str:
        """A log file of its own."""
        return self.lab.read_file(self.node, f"{self.folder()}/log/{name}")


def provide_condor_status(lab: Lab) -> None:
    """Put what asks a startd on the cluster's shared folder; pilots have none."""
    send_tree(lab, (global_pool.HOST, "/usr/bin"), (LOGIN_NODES[0], SHARED), ["condor_status"])
