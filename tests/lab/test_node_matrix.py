# SPDX-License-Identifier: Apache-2.0
"""Worker nodes that have something or lack it: the way to /cvmfs a real pilot takes there, or why it refuses.

The CVMFS client and parrot are stand-ins by name; mounts, path mapping, containers and HTCondor are real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import pytest

from tests.lab import payloads, siteconf
from tests.lab.lab import Lab
from tests.lab.pilot_site import APPTAINER, GREETING, HELLO, IMAGES, MAKER, REPOSITORY
from tests.lab.pilots import SCRATCH, NodePilot, PilotEntry, start_pilot
from tests.lab.waiting import await_true

NO_NATIVE = "native: cms.cern.ch: .*No such file or directory"
NO_USERNS = "userns: unshare: unshare failed: Operation not permitted .unshare: 1."
NO_FUSERMOUNT = "fusermount: unshare: unshare failed: Operation not permitted .unshare: 1."
NO_FUSE = "userns: no /dev/fuse; fusermount: no /dev/fuse"
# Something must show at /cvmfs what this way mounts, so it is tried where parrot or a container is.
NO_MOUNTREPO = "mountrepo: no /dev/fuse"
FULL = "userns: only [0-9]+ MB free for the cache in /scratch/.*"
PILOTS_AT_ONCE = 4
"""Each waits for the pool most of the time."""
CLEAN_DEADLINE_S = 10.0
PUBLISHED = (
    "HAS_CVMFS",
    "GWMS_BOSCO_CVMFS",
    "GWMS_BOSCO_CVMFS_REPOS",
    "GWMS_BOSCO_CVMFS_CACHE",
    "GWMS_BOSCO_CVMFS_WHY",
    "GWMS_BOSCO_IN_CONTAINER",
)
Entries = Mapping[str, PilotEntry]


@dataclass(frozen=True)
class Row:
    """A node that a pilot runs on.

    Attributes:
        node: the lab host.
        mode: what the pilot takes there.
        why: what it says of the ways before, a regular expression.
        entry: the entry it is of.
        start: how it is started.
    """

    node: str
    mode: str
    why: str
    entry: str = "all"
    start: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """What came of a pilot; the payload's part is empty after a refusal."""

    ad: Mapping[str, Any]
    output: str
    exit_code: Optional[int] = None
    stdout: str = ""
    stderr: str = ""
    siteconf: str = ""


ROWS = {
    "native": Row("node-native", "native", "none"),
    "user name spaces": Row(MAKER, "userns", NO_NATIVE),
    "fusermount": Row(MAKER, "fusermount", "none", "fusermount"),
    "cache in an image": Row(MAKER, "userns", NO_NATIVE, "imaged"),
    "apptainer": Row(APPTAINER, "userns", NO_NATIVE, "contained"),
    "no FUSE device": Row("node-nofuse", "parrot", f"{NO_NATIVE}; {NO_FUSE}; {NO_MOUNTREPO}"),
    "no user name spaces": Row("node-nouserns", "mountrepo", f"{NO_NATIVE}; {NO_USERNS}; {NO_FUSERMOUNT}"),
    "neither": Row("node-neither", "parrot", f"{NO_NATIVE}; {NO_USERNS}; {NO_FUSERMOUNT}; {NO_MOUNTREPO}"),
    "noexec tmp": Row("node-noexec-tmp", "userns", NO_NATIVE),
    "full disk": Row("node-full-disk", "parrot", f"{NO_NATIVE}; {FULL}"),
    "no os-release": Row("node-no-os-release", "userns", NO_NATIVE),
    "read-only home": Row("node-ro-home", "userns", NO_NATIVE),
    "HOME unset": Row(MAKER, "userns", NO_NATIVE, start={"without": ("HOME",)}),
    "busybox": Row("node-busybox", "userns", NO_NATIVE, start={"path": "/opt/busybox"}),
    "no Python": Row("node-no-python", "userns", NO_NATIVE),
    "Debian 11": Row("node-oldest", "userns", NO_NATIVE),
}
REFUSALS = {
    "no FUSE device": Row("node-nofuse", "none", f"{NO_NATIVE}; {NO_FUSE}", "noparrot"),
    "neither": Row("node-neither", "none", f"{NO_NATIVE}; {NO_USERNS}; {NO_FUSERMOUNT}", "noparrot"),
    "full disk": Row("node-full-disk", "none", f"{NO_NATIVE}; {FULL}", "noparrot"),
}


@pytest.fixture(scope="module")
def ended(lab: Lab, entries: Entries) -> Iterator[Callable[[Row], Ended]]:
    """Run all pilots, some side by side, and give the end of one."""
    rows = [(name, row) for table in (ROWS, REFUSALS) for name, row in table.items()]
    for node in {row.node for _, row in rows}:
        lab.ensure(node)
    with ThreadPoolExecutor(PILOTS_AT_ONCE) as pool:
        runs: dict[int, Future[Ended]] = {
            id(row): pool.submit(_run, lab, entries, row, f"m{number}") for number, (_, row) in enumerate(rows)
        }
        yield lambda row: runs[id(row)].result()
        pool.shutdown(cancel_futures=True)


def _run(lab: Lab, entries: Entries, row: Row, name: str) -> Ended:
    pilot = start_pilot(lab, row.node, entries[row.entry], name, **row.start)
    try:
        if row.mode == "none":
            pilot.await_end()
            return Ended(pilot.ad() or {}, pilot.output())
        done = _run_payload(lab, pilot, row)
    finally:
        pilot.end()
    await_true(lambda: pilot.left() == [], f"nothing of {name} is left", CLEAN_DEADLINE_S)
    return done


def _run_payload(lab: Lab, pilot: NodePilot, row: Row) -> Ended:
    where = " && test -e /etc/standin-image" if row.entry == "contained" else ""
    script = f"cat {HELLO} && cat && cat input >&2{where} && {siteconf.READ} && exit 42"
    payload = payloads.submit(lab, pilot, script, "text\nin\n")
    pilot.await_joined()
    ad = pilot.ad(*PUBLISHED) or {}
    code, stdout = payload.exit_code(), payload.stdout()
    text, found = stdout[: stdout.find("in\n") + 3], stdout[stdout.find("in\n") + 3 :]
    return Ended(ad, pilot.output(), code, text, payload.stderr(), found)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_payload_reads_cvmfs_and_the_way_is_published(ended: Callable[[Row], Ended], row: Row) -> None:
    end = ended(row)
    assert (end.exit_code, end.stdout) == (42, f"{GREETING}text\nin\n"), end.stderr
    assert end.stderr.endswith("text\nin\n")
    assert (end.ad["HAS_CVMFS"], end.ad["GWMS_BOSCO_CVMFS"]) == (True, row.mode), end.ad
    assert end.ad["GWMS_BOSCO_CVMFS_REPOS"] == REPOSITORY
    assert re.fullmatch(row.why, end.ad["GWMS_BOSCO_CVMFS_WHY"]), end.ad
    assert end.ad.get("GWMS_BOSCO_IN_CONTAINER") == ("payload" if row.entry == "contained" else None)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_payload_reads_the_same_siteconf_in_every_mode(ended: Callable[[Row], Ended], row: Row) -> None:
    """Below its pilot's folder, which the contents name too."""
    path, text = siteconf.read_back(ended(row).siteconf)
    assert re.fullmatch(f"{SCRATCH}/m[0-9]+/glide_[A-Za-z0-9]+/gwms_bosco/siteconf/SITECONF/local", path)
    assert text == siteconf.read_back(ended(ROWS["native"]).siteconf)[1]


def test_cache_lies_where_the_site_file_says(lab: Lab, ended: Callable[[Row], Ended]) -> None:
    end = ended(ROWS["cache in an image"])
    assert re.fullmatch(f"{IMAGES}/gwms-bosco-cache-[A-Za-z0-9.-]+", end.ad["GWMS_BOSCO_CVMFS_CACHE"])
    # It went with the pilot.
    assert lab.run(MAKER, ["ls", IMAGES]).stdout == ""


@pytest.mark.parametrize("row", REFUSALS.values(), ids=REFUSALS)
def test_pilot_refuses_with_the_reason(ended: Callable[[Row], Ended], row: Row) -> None:
    end = ended(row)
    assert end.ad == {}
    assert re.search(f"^BOSCO-CVMFS-03 no way to get /cvmfs here. {row.why}$", end.output, re.MULTILINE), end.output
    assert "=== condor_master" not in end.output
