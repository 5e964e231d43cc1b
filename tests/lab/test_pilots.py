# SPDX-License-Identifier: Apache-2.0
"""What happens to real pilots and their payloads: signals, neighbours, kill -9, no CVMFS, others' entries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.lab import payloads
from tests.lab.lab import Lab
from tests.lab.pilot_site import APPTAINER, CVMFSEXEC_DIST, GREETING, HELLO, MAKER, PARROT_RUN, REPOSITORY
from tests.lab.pilots import NodePilot, PilotEntry, start_pilot
from tests.lab.waiting import await_true

Entries = Mapping[str, PilotEntry]
READ = f"cat {HELLO} && cat && exit 42"
# HTCondor removes the job's folder when the job has gone: its trap takes long enough to be seen.
TRAPPING = 'trap "echo trapped >>said; sleep 3; exit 42" TERM; echo ready >>said; while :; do sleep 0.1; done'


@pytest.fixture
def ending() -> Iterator[ExitStack]:
    """Pilots that end with the test."""
    with ExitStack() as stack:
        yield stack


def begin(ending: ExitStack, pilot: NodePilot) -> NodePilot:
    """Have a pilot end with the test, and wait until it is in the pool."""
    ending.callback(pilot.end)
    pilot.await_joined()
    return pilot


def test_check_of_the_pilot_s_mounts_is_in_the_machine_ad(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    pilot = begin(ending, start_pilot(lab, MAKER, entries["all"], "checked"))

    def checked() -> bool:
        ad = pilot.ad("GLIDEIN_PS_GWMS_BOSCO_CVMFS_OK")
        return ad is not None and ad.get("GLIDEIN_PS_GWMS_BOSCO_CVMFS_OK") is True

    await_true(checked, "GLIDEIN_PS_GWMS_BOSCO_CVMFS_OK in the ad", 20.0)


@pytest.mark.parametrize(
    ("whom", "node", "entry"),
    [
        ("payload", "node-native", "all"),
        ("payload", MAKER, "all"),
        ("payload", MAKER, "fusermount"),
        ("payload", APPTAINER, "contained"),
        ("pilot", MAKER, "all"),
        ("pilot", APPTAINER, "contained"),
    ],
)
def test_term_reaches_the_payload(
    lab: Lab, entries: Entries, ending: ExitStack, whom: str, node: str, entry: str
) -> None:
    """The pool takes the job back, or the batch system ends the pilot."""
    lab.ensure(node)
    pilot = start_pilot(lab, node, entries[entry], f"term-{whom}-{node}-{entry}")
    payload = payloads.submit(lab, pilot, TRAPPING)
    begin(ending, pilot)
    await_true(lambda: said(lab, pilot) == "ready\n", "payload runs", 30.0)
    if whom == "payload":
        payload.remove()
    else:
        pilot.signal("TERM")
    await_true(lambda: said(lab, pilot) == "ready\ntrapped\n", "payload's trap ran", 20.0)
    if whom == "pilot":
        pilot.await_end()
        payload.remove()


def said(lab: Lab, pilot: NodePilot) -> str:
    """What a payload has written into the file `said` of its folder."""
    script = 'cat "$1"/glide_*/execute/dir_*/said'
    return lab.run(pilot.node, ["sh", "-c", script, "sh", pilot.folder], check=False).stdout


def test_two_pilots_on_a_node_do_not_touch_each_other(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    names = ("first", "second")
    first, second = [start_pilot(lab, MAKER, entries["all"], name) for name in names]
    for pilot in (first, second):
        begin(ending, pilot)
    caches = [(pilot.ad("GWMS_BOSCO_CVMFS_CACHE") or {})["GWMS_BOSCO_CVMFS_CACHE"] for pilot in (first, second)]
    assert caches[0] != caches[1]
    go = f"/shared/pilot/go-{second.name}"
    runs = payloads.submit(lab, second, f"cat {HELLO}; until test -e {go}; do sleep 0.1; done; cat {HELLO}")
    runs.await_running()
    first.end()
    await_true(lambda: first.left() == [], "nothing of the first is left", 10.0)
    lab.run("login", ["touch", go])
    assert runs.exit_code() == 0, runs.stderr()
    assert runs.stdout() == 2 * GREETING


@pytest.mark.parametrize("entry", ["all", "fusermount"])
def test_pilot_after_a_killed_one_cleans_up_and_works(
    lab: Lab, entries: Entries, ending: ExitStack, entry: str
) -> None:
    killed = start_pilot(lab, MAKER, entries[entry], f"killed-{entry}")
    killed.await_joined()
    # All but the client, as where a batch system follows the process group and the client has left it.
    lab.run(MAKER, ["pkill", "-KILL", "-u", "pilot", "condor|bash|sh|cvmfs-holder"])
    next_one = start_pilot(lab, MAKER, entries[entry], f"after-{entry}")
    payload = payloads.submit(lab, next_one, READ)
    begin(ending, next_one)
    assert payload.exit_code() == 42, payload.stderr()
    assert "removed what the killed pilot of" in next_one.output()
    left = [line for line in killed.left() if "/gwms_bosco/cvmfs/" in line]
    assert left == []


def test_pilot_without_cvmfs_takes_only_jobs_that_do_not_ask(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    lab.ensure("node-neither")
    pilot = start_pilot(lab, "node-neither", entries["lenient"], "lenient")
    asks = payloads.submit(lab, pilot, READ, extra="+RequiresCVMFS = True")
    plain = payloads.submit(lab, pilot, "test ! -e /cvmfs/cms.cern.ch && exit 7")
    begin(ending, pilot)
    assert plain.exit_code() == 7
    assert (pilot.ad("HAS_CVMFS") or {})["HAS_CVMFS"] is False
    assert asks.waits()
    asks.remove()


def test_payloads_get_cvmfs_on_request(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    pilot = start_pilot(lab, MAKER, entries["lenient"], "on-request")
    asks = payloads.submit(lab, pilot, READ, extra="+RequiresCVMFS = True")
    plain = payloads.submit(lab, pilot, "test ! -e /cvmfs/cms.cern.ch && exit 7")
    begin(ending, pilot)
    assert asks.exit_code() == 42, asks.stderr()
    assert plain.exit_code() == 7


def test_idle_pilot_ends_and_leaves_nothing(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    pilot = begin(ending, start_pilot(lab, MAKER, entries["all"], "idle", idle_s=15))
    pilot.await_end()
    await_true(lambda: pilot.left() == [], "nothing of the pilot is left", 10.0)


def test_entry_of_somebody_else_brings_the_runtime_half(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    """Where it is submitted to is not ours; its own script comes after ours, and its pilot runs the same payload."""
    submission = entries["ce"].submission
    assert (submission["gridtype"], submission["gatekeeper"]) == ("condor", "ce.example.org ce.example.org:9619")
    assert submission["submit_attrs"] == {"+xcount": "8"}
    pilot = start_pilot(lab, MAKER, entries["ce"], "ce")
    payload = payloads.submit(lab, pilot, READ)
    begin(ending, pilot)
    assert payload.exit_code() == 42, payload.stderr()
    assert payload.stdout() == f"{GREETING}input\n"
    assert "=== own.sh: 0" in pilot.output()


@pytest.mark.skipif(not CVMFSEXEC_DIST, reason="CVMFSEXEC_DIST names no distribution of the real cvmfsexec")
def test_real_cvmfsexec_mounts_or_its_client_says_why(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    """The lab has no way to a Stratum 1: without a server of its own the client's own words come back."""
    assert_reads_or_says_why(lab, start_pilot(lab, MAKER, entries["realdist"], "realdist"), ending, "userns")


@pytest.mark.skipif(not PARROT_RUN, reason="PARROT_RUN names no real parrot_run")
def test_real_parrot_shows_cvmfs_or_the_pilot_says_why(lab: Lab, entries: Entries, ending: ExitStack) -> None:
    """On Debian 11: parrot_run traces system calls that it knows, and a young C library makes others."""
    lab.ensure("node-oldest")
    pilot = start_pilot(lab, "node-oldest", entries["realparrot"], "realparrot")
    assert_reads_or_says_why(lab, pilot, ending, "parrot")


def assert_reads_or_says_why(lab: Lab, pilot: NodePilot, ending: ExitStack, mode: str) -> None:
    """A payload reads /cvmfs; or the pilot refuses by itself, with a reason, and leaves nothing."""
    ending.callback(pilot.end)
    await_true(lambda: pilot.ad() is not None or not pilot.alive(), "joined or ended", 60.0)
    if pilot.alive():
        read = f'for f in /cvmfs/{REPOSITORY}/*; do test -f "$f" && head -c 1 "$f" && exit 42; done'
        payload = payloads.submit(lab, pilot, read)
        assert payload.exit_code() == 42, payload.stderr()
        assert (pilot.ad("GWMS_BOSCO_CVMFS") or {})["GWMS_BOSCO_CVMFS"] == mode
    else:
        assert re.search(f"^BOSCO-CVMFS-03 no way to get /cvmfs here. {mode}: .+", pilot.output(), re.MULTILINE)
        await_true(lambda: pilot.left() == [], "nothing of the pilot is left", 10.0)
