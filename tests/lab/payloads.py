# SPDX-License-Identifier: Apache-2.0
"""Payloads: jobs of the Global Pool, each for one pilot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.lab import global_pool
from tests.lab.lab import Lab
from tests.lab.pilots import NAME_ATTRIBUTE, Pilot
from tests.lab.process import wait_for

DONE_DEADLINE_S = 60.0
_SUBMIT = """\
universe = vanilla
initialdir = {folder}
executable = {folder}/payload.sh
transfer_input_files = {folder}/input
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
input = {folder}/input
output = {folder}/out
error = {folder}/err
log = {folder}/log
request_cpus = 1
request_memory = 50
request_disk = 1M
requirements = TARGET.{attribute} == "{pilot}"
notification = never
{extra}
queue
"""


@dataclass(frozen=True)
class Payload:
    """A job in the Global Pool."""

    lab: Lab
    cluster: str
    folder: str

    def _text(self, name: str) -> str:
        return self.lab.run(global_pool.HOST, ["cat", f"{self.folder}/{name}"], check=False).stdout

    def _pool(self, *argv: str) -> str:
        return self.lab.run(global_pool.HOST, argv, user=global_pool.USER, env=global_pool.ENV, check=False).stdout

    def stdout(self) -> str:
        """Its standard output, once it is back."""
        return self._text("out")

    def file(self, name: str) -> str:
        """A file that it has sent back."""
        return self._text(name)

    def stderr(self) -> str:
        """Its standard error, once it is back."""
        return self._text("err")

    def log(self) -> str:
        """The log of its events."""
        return self._text("log")

    def events(self, number: str) -> int:
        """How many events of a kind stand in its log: 001 runs, 004 evicted, 005 ended, 012 held."""
        return sum(line.startswith(f"{number} (") for line in self._text("log").splitlines())

    def await_running(self) -> None:
        """Wait until it runs."""
        wait_for("payload runs", lambda: self.events("001") > 0, DONE_DEADLINE_S, lambda: self._text("log"))

    def await_event(self, number: str, deadline_s: float = DONE_DEADLINE_S) -> None:
        """Wait for an event of its log."""
        wait_for(f"event {number}", lambda: self.events(number) > 0, deadline_s, self.log)

    def exit_code(self, deadline_s: float = DONE_DEADLINE_S) -> int:
        """Wait until it has ended and return its exit code; a signal that ended it counts negative."""
        self.await_event("005", deadline_s)
        wait_for("payload left the queue", lambda: not self._pool("condor_q", self.cluster, "-af", "ClusterId"), 20.0)
        fields = ("ExitCode", "ExitBySignal", "ExitSignal")
        text = self._pool("condor_history", self.cluster, "-json", "-attributes", ",".join(fields), "-limit", "1")
        ad: dict[str, Any] = json.loads(text)[0]
        return -int(ad["ExitSignal"]) if ad.get("ExitBySignal") else int(ad["ExitCode"])

    def remove(self) -> None:
        """Take it out of the queue, which stops it."""
        self._pool("condor_rm", self.cluster)

    def waits(self) -> bool:
        """Tell whether it is idle in the queue."""
        return self._pool("condor_q", self.cluster, "-af", "JobStatus").strip() == "1"


def submit(lab: Lab, pilot: Pilot, script: str, text_in: str = "input\n", extra: str = "") -> Payload:
    """Submit a shell script for one pilot.

    Args:
        text_in: its standard input, and the file `input` in its folder.
        extra: further lines of the submit file.
    """
    user = global_pool.USER
    folder = lab.run(global_pool.HOST, ["mktemp", "-d", f"/home/{user}/jobs/XXXXXX"], user=user).stdout.strip()
    text = _SUBMIT.format(folder=folder, attribute=NAME_ATTRIBUTE, pilot=pilot.name, extra=extra)
    for name, content in (("payload.sh", f"#!/bin/sh\n{script}\n"), ("input", text_in), ("submit", text)):
        lab.write_file(global_pool.HOST, f"{folder}/{name}", content, f"{user}:{user}", 0o755)
    argv = ["condor_submit", "-terse", f"{folder}/submit"]
    said = lab.run(global_pool.HOST, argv, user=user, env=global_pool.ENV).stdout
    return Payload(lab, said.partition(".")[0], folder)
