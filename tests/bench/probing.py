# SPDX-License-Identifier: Apache-2.0
"""A probe against the least that ssh can do: log in and run `true`."""

from __future__ import annotations

import json

from glideinwms_bosco.remote.connection import LOGIN_ALIAS
from tests.bench.figures import BenchError, Figure, Section
from tests.bench.workplace import ACCOUNT, COMMAND, SITE, SSH_CONFIG, Sample, Workplace
from tests.lab.operator import key_of

ROUNDS = 5
TARGET_S = 2
_PROBE = [COMMAND, "remote", "probe", SITE.name, "--key", key_of(ACCOUNT), "--json"]
_SSH = ["ssh", "-F", SSH_CONFIG, LOGIN_ALIAS, "true"]


def _probe(place: Workplace, *options: str) -> Sample:
    sample = place.measure([*_PROBE, *options])
    report = json.loads(sample.stdout)
    if not report["ok"]:
        raise BenchError(f"the probe of a sound login node finds {report['findings']}")
    return sample


def measure(place: Workplace) -> Section:
    """Measure probes with and without a test job.

    Raises:
        BenchError: a probe found an error.
        LabError: a command failed.
    """
    plain = [_probe(place, "--no-job") for _ in range(ROUNDS)]
    with_job = [_probe(place) for _ in range(ROUNDS)]
    ssh_s = [place.measure(_SSH).seconds for _ in range(ROUNDS)]
    return Section(
        "Probe of a sound login node (no network delay)",
        (
            Figure(
                "remote probe --no-job", [s.seconds for s in plain], "s", "ssh true", ssh_s, f"target < {TARGET_S} s"
            ),
            Figure("remote probe, with a job on a worker", [s.seconds for s in with_job], "s", "ssh true", ssh_s),
            Figure("ssh connections of it", [s.logins for s in plain], ""),
        ),
    )
