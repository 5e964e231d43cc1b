# SPDX-License-Identifier: Apache-2.0
"""Pilots as the factory submits them: a grid job with the attributes of a rendered entry, through remote_gahp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import global_pool
from tests.lab.lab import Lab
from tests.lab.operator import USER, key_of
from tests.lab.pilots import ARCHIVES, Pilot, PilotEntry, glidein_args

JOBS = f"/home/{USER}/pilots"
_GLIDEIN = Path(__file__).with_name("standin_glidein.sh")
_SUBMIT = """\
universe = grid
grid_resource = {gridtype} --rgahp-key {key} --rgahp-nopass --rgahp-glite ~/{bosco_dir}/glite {gatekeeper}
executable = glidein_startup.sh
arguments = {arguments}
transfer_input_files = {archive},{token}
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
output = {name}.out
error = {name}.err
log = {name}.log
notification = never
{attributes}
queue
"""


@dataclass(frozen=True)
class FactoryPilot(Pilot):
    """A pilot in the factory's queue; `job` is its number."""

    job: str

    def _text(self, end: str) -> str:
        return self.lab.run("factory", ["cat", f"{JOBS}/{self.name}.{end}"], check=False).stdout

    def output(self) -> str:
        """What it has printed, once it is back."""
        return self._text("out") + self._text("err")

    def log(self) -> str:
        """The log of its job."""
        return self._text("log")

    def remove(self) -> None:
        """Take it out of the factory's queue."""
        self.lab.run("factory", ["condor_rm", self.job], user=USER)


def prepare_jobs(lab: Lab) -> None:
    """Make the folder of jobs, with what starts a pilot and a token of the pool."""
    lab.run("factory", ["mkdir", "-p", JOBS], user=USER)
    lab.write_file("factory", f"{JOBS}/glidein_startup.sh", _GLIDEIN.read_text(encoding="utf-8"), USER, 0o755)
    lab.write_file("factory", f"{JOBS}/token", global_pool.token(lab), f"{USER}:{USER}", 0o600)


def submit_pilot(
    lab: Lab, entry: PilotEntry, name: str, words: Sequence[str], key: str = key_of("pilot")
) -> FactoryPilot:
    """Submit a pilot of an entry.

    Args:
        words: arguments of standin_glidein.sh after archive and token.
        key: path of the credential.
    """
    archive = entry.archive.rpartition("/")[2]
    attributes = [f"{key} = {value}" for key, value in entry.submission["submit_attrs"].items()]
    text = _SUBMIT.format(
        **{key: entry.submission[key] for key in ("gridtype", "bosco_dir", "gatekeeper")},
        key=key,
        arguments=" ".join([archive, "token", *words]),
        archive=f"{ARCHIVES}/{archive}",
        token=f"{JOBS}/token",
        name=name,
        attributes="\n".join(attributes),
    )
    lab.write_file("factory", f"{JOBS}/{name}.sub", text, USER)
    argv = ["sh", "-c", 'cd "$1" && condor_submit -terse "$2"', "sh", JOBS, f"{name}.sub"]
    said = lab.run("factory", argv, user=USER).stdout
    return FactoryPilot(lab, name, said.partition(".")[0])


def local_words(entry: PilotEntry, name: str, idle_s: int) -> list[str]:
    """Arguments for a pilot that takes HTCondor from the shared folder."""
    return glidein_args(entry, name, idle_s=idle_s)[2:]
