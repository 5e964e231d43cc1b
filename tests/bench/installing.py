# SPDX-License-Identifier: Apache-2.0
"""Deploy against what a user would do: tar through ssh into a fresh account, rsync when nothing has changed.

Both sides use the same files, key, ssh options and pinned host keys, in turn. A deploy also builds its bundle, looks at
the account, verifies every file there and switches; tar and rsync copy.
"""

from __future__ import annotations

import json
from typing import Any

from glideinwms_bosco.bundle.manifest import MANIFEST_NAME
from glideinwms_bosco.remote.connection import LOGIN_ALIAS
from glideinwms_bosco.remote.plan import RECORD_FILES
from tests.bench.bundles import ARCHIVE
from tests.bench.figures import BenchError, Figure, Section
from tests.bench.workplace import ACCOUNT, BOSCO_DIR, COMMAND, FOLDER, SITE, SSH_CONFIG, Sample, Workplace
from tests.lab.operator import USER, key_of

ROUNDS = 5
TREE = f"{FOLDER}/tree"
PLAIN = "plain"
DEPLOY = [COMMAND, "remote", "deploy", SITE.name, "--key", key_of(ACCOUNT), "--json"]
_TAR = 'set -o pipefail; tar -cz -C "$1" . | ssh -F "$2" "$3" "mkdir $4 && tar -xz -C $4"'
TAR = ["bash", "-c", _TAR, "bash", TREE, SSH_CONFIG, LOGIN_ALIAS, PLAIN]
RSYNC = ["rsync", "-rlpt", "--itemize-changes", "-e", f"ssh -F {SSH_CONFIG}", f"{TREE}/", f"{LOGIN_ALIAS}:{PLAIN}/"]


def _deploy(place: Workplace, action: str) -> tuple[Sample, dict[str, Any]]:
    sample = place.measure(DEPLOY)
    report: dict[str, Any] = json.loads(sample.stdout)
    if report["action"] != action:
        raise BenchError(f"the deploy says {report['action']!r}, not {action!r}")
    return sample, report


def _rsync(place: Workplace, *options: str) -> Sample:
    sample = place.measure([*RSYNC, *options])
    if sample.stdout:
        raise BenchError(f"rsync found changes where nothing had changed:\n{sample.stdout}")
    return sample


def first(place: Workplace, start_s: float, build_s: float) -> Section:
    """Measure installation into an account that has nothing yet; ARCHIVE has been built.

    Args:
        start_s: start-up time of the command (s), for the note.
        build_s: time to build the bundle in one process (s), for the note.

    Raises:
        BenchError: the two ways did not bring the same files.
        LabError: a command failed.
    """
    # The archive's manifest stays at the factory; what deploy writes beside the files is the version's record.
    unpack = 'mkdir "$1" && tar -xzf "$2" -C "$1" --exclude="$3"'
    place.lab.run("factory", ["sh", "-c", unpack, "sh", TREE, ARCHIVE, MANIFEST_NAME], user=USER)
    deploys, tars = [], []
    for _ in range(ROUNDS):
        place.empty_account(BOSCO_DIR)
        place.empty_account(PLAIN)
        sample, report = _deploy(place, "installed")
        deploys.append(sample)
        tars.append(place.measure(TAR))
    records = [f"--exclude={name}" for name in RECORD_FILES]
    compare = ["diff", "-r", *records, f"{BOSCO_DIR}/versions/{report['digest']}", PLAIN]
    differs = place.lab.run("login", compare, user=ACCOUNT, check=False)
    if differs.returncode:
        raise BenchError(f"deploy and tar brought different files:\n{differs.stdout}{differs.stderr}")
    tar = "tar -cz | ssh tar -xz"
    note = f"start-up {start_s:.2f} s, build {build_s:.2f} s of it; tar has neither"
    return Section(
        f"First deploy, {report['files_sent']} files, into an account that has nothing (no network delay)",
        (
            Figure("remote deploy", [s.seconds for s in deploys], "s", tar, [s.seconds for s in tars], note),
            *_traffic(deploys, tar, tars),
        ),
    )


def again(place: Workplace) -> Section:
    """Measure a deploy that finds nothing to do; `first` has run.

    Raises:
        BenchError: something did change.
        LabError: a command failed.
    """
    place.measure(RSYNC)
    deploys, quick, thorough = [], [], []
    for _ in range(ROUNDS):
        sample, report = _deploy(place, "unchanged")
        deploys.append(sample)
        quick.append(_rsync(place))
        thorough.append(_rsync(place, "--checksum"))
    wall_s = [s.seconds for s in deploys]
    return Section(
        "Deploy again, nothing changed (every file there is hashed; no network delay)",
        (
            Figure("remote deploy", wall_s, "s", "rsync, by time and size", [s.seconds for s in quick]),
            Figure("remote deploy", wall_s, "s", "rsync --checksum", [s.seconds for s in thorough]),
            *_traffic(deploys, "rsync", quick),
            Figure("files of the bundle sent", [report["files_sent"]], ""),
            Figure("bytes of the bundle sent", [report["bytes_sent"]], "B"),
        ),
    )


def _traffic(ours: list[Sample], instead: str, theirs: list[Sample]) -> tuple[Figure, ...]:
    return (
        Figure("ssh connections accepted by sshd", [s.logins for s in ours], "", instead, [s.logins for s in theirs]),
        Figure("remote programs run", [s.programs for s in ours], "", instead, [s.programs for s in theirs]),
        Figure(
            "bytes sent by the factory's network card",
            [s.sent_bytes for s in ours],
            "B",
            instead,
            [s.sent_bytes for s in theirs],
        ),
    )
