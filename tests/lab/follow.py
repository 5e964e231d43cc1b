# SPDX-License-Identifier: Apache-2.0
"""Follow the marked blocks of how-to pages on lab hosts, word for word; the hosts have the names that the pages use.

The caller makes the hosts what the pages expect: accounts and folders as glideinWMS's packages bring them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import packaged
from tests.lab.lab import Lab
from tests.lab.operator import USER
from tests.lab.settings import FACTORY_CONDOR_CONFIG
from tests.lab.waiting import await_true
from tests.pages import Step

# Names of the pages -> addresses.
_NAMES = "10.77.0.20 login.example.org\n10.77.0.10 factory.example.org\n"
_STEP_TIMEOUT_S = 300.0
_WAIT_S = 30.0


@dataclass
class Follower:
    """Somebody who does what pages say.

    Attributes:
        rpms: folder with the packages.
        values: placeholder -> value, growing with each step.
        outputs: of the steps, by page and line.
    """

    lab: Lab
    rpms: Path
    values: dict[str, str]
    outputs: dict[tuple[str, int], str] = field(default_factory=dict)

    def follow(self, steps: Iterable[Step]) -> None:
        """Do the steps in order.

        Raises:
            CommandError: a command of a block has failed.
            AssertionError: the output is not as the page says.
        """
        for step in steps:
            if step.kind == "file":
                self._write(step)
            elif step.kind == "systemd":
                self._give_credential(step)
            elif step.kind == "dnf":
                self._install(step)
            else:
                self._run(step)

    def _write(self, step: Step) -> None:
        self.lab.run(step.host, ["install", "-d", step.what.rpartition("/")[0]])
        self.lab.write_file(step.host, step.what, step.filled(self.values))

    def _run(self, step: Step) -> None:
        if step.waits:
            argv = ["sh", "-e", "-c", step.filled(self.values)]
            await_true(
                lambda: self.lab.run(step.host, argv, user=step.what, check=False).returncode == 0,
                f"{step.page}:{step.line} succeeds", _WAIT_S,
            )  # fmt: skip
        answers = "".join(f"{self.values[name]}\n" for name in step.answers)
        done = self.lab.run(
            step.host, ["sh", "-e", "-c", step.filled(self.values)],
            user=step.what, input=answers or None, timeout=_STEP_TIMEOUT_S, env=_environment(step.host),
            check=not step.refused,
        )  # fmt: skip
        assert done.returncode == step.refused, f"{step.page}:{step.line}: {done.returncode}\n{done.stderr}"
        self.outputs[step.page, step.line] = done.stdout
        if step.name:
            self.values[step.name] = step.found_in(done.stdout)

    def _install(self, step: Step) -> None:
        """What dnf does, without looking for what the packages require."""
        dnf, verb, *patterns = shlex.split(step.text)
        assert (dnf, verb) == ("dnf", "install"), step.text
        found = [sorted(self.rpms.glob(pattern)) for pattern in patterns]
        assert all(found), f"{step.page}:{step.line}: {patterns}: {found}"
        packaged.install(self.lab, step.host, [path for paths in found for path in paths])

    def _give_credential(self, step: Step) -> None:
        """What LoadCredentialEncrypted= gives the service; tests/packaging/test_credential.py runs the block itself."""
        name, value = step.credential
        folder = "/run/credentials/gwms-ssh-broker"
        self.lab.run(step.host, ["install", "-d", "-m", "0700", folder])
        self.lab.write_file(step.host, f"{folder}/{name}", self.values[value], mode=0o400)


def _environment(host: str) -> dict[str, str]:
    # The lab's factory has its HTCondor in a home, not in /etc/condor.
    return {"CONDOR_CONFIG": FACTORY_CONDOR_CONFIG} if host == "factory" else {}


def name_hosts(lab: Lab, *hosts: str) -> None:
    """Let hosts know the others by the names that the pages use."""
    for host in hosts:
        text = lab.read_file(host, "/etc/hosts")
        if "login.example.org" not in text:
            lab.run(host, ["sh", "-c", "cat >> /etc/hosts"], input=_NAMES)


def add_gfactory(lab: Lab) -> None:
    """Call the lab's factory account gfactory too, as glideinWMS's packages do."""
    if lab.run("factory", ["id", "gfactory"], check=False).returncode:
        uid = lab.run("factory", ["id", "-u", USER]).stdout.strip()
        gid = lab.run("factory", ["id", "-g", USER]).stdout.strip()
        lab.run("factory", ["groupadd", "-o", "-g", gid, "gfactory"])
        lab.run("factory", ["useradd", "-o", "-u", uid, "-g", gid, "-d", f"/home/{USER}", "-M", "gfactory"])
