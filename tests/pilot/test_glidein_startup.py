# SPDX-License-Identifier: Apache-2.0
"""All our scripts under the real glidein_startup.sh: from the download to the payload and to the end of the pilot."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from glideinwms_bosco.pilot.scripts import default_scripts_dir, pack_script, read_sources
from tests.pilot import stage_area
from tests.pilot.harness import GLIDEINWMS_SRC
from tests.pilot.job_wrapper import composing_script, main_variables
from tests.pilot.node import UID, Node
from tests.pilot.stage_area import Item, StageArea
from tests.pilot.test_cvmfs_traps import wait_until

pytestmark = pytest.mark.skipif(not GLIDEINWMS_SRC, reason="GLIDEINWMS_SRC names no checkout of glideinWMS")
MakeNode = Callable[..., Node]
REPOSITORY = "cms.cern.ch"
HELLO = f"/cvmfs/{REPOSITORY}/hello"
PERIOD_S = 600
# A pilot that fails sleeps for minutes first.
PILOT = ("timeout", "-s", "KILL", "50", "bash", "./glidein_startup.sh")
# In the order of the entry.
SCRIPTS = ("cvmfs_setup", "cvmfs_check", "credentials_setup", "container_setup", "payload_setup")
# In place of condor_startup.sh, whose lines that compose the job wrapper it runs: starts payloads by that wrapper and
# the periodic script as the startd would, and tells what it found.
LAST_SCRIPT = """#!/bin/bash
cat >main_vars.lst <<'VARIABLES'
{variables}
VARIABLES
cp main/condor_vars.lst condor_vars.lst
cat >compose.sh <<'COMPOSE'
{compose}
COMPOSE
bash compose.sh "$PWD/wrapper_list.lst" || exit 1
echo "payload: $(sh ./condor_job_wrapper.sh cat {hello})"
sh ./condor_job_wrapper.sh sh -c 'exit 42'
echo "payload's exit code: $?"
program=$(sed -n 's/^STARTD_CRON_.*_EXECUTABLE = //p' condor_config_startd_cron_include)
words=$(sed -n 's/^STARTD_CRON_.*_ARGS = //p' condor_config_startd_cron_include)
"$program" $words | sed 's/^/periodic: /'
grep -E '^(GWMS_BOSCO|HAS_CVMFS|GLIDEIN_WRAPPER_EXEC)' glidein_config
grep -hE '^(GWMS_BOSCO|HAS_CVMFS)' condor_vars.lst | sed 's/^/variable: /'
{then}
exit 0
"""

# Whoever ends the batch job signals all of the pilot's process group, also the processes that carry its own output: so
# the payload writes to a file.
KILLED = """
payload='trap "cat {hello}; exit 0" TERM; echo waiting; while :; do sleep 0.05; done'
sh ./condor_job_wrapper.sh bash -c "$payload" >{said} 2>&1 &
until grep -q waiting {said}; do sleep 0.05; done
trap : TERM
kill -TERM 0
wait
wait
"""


def archive(folder: Path) -> bytes:
    """A folder as an entry brings it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    return stream.getvalue()


def entry_files(distribution: Path) -> list[Item]:
    """What plan.py gives an entry, in its order."""
    sources = read_sources(default_scripts_dir())
    files = [Item("cvmfsexec.tar.gz", archive(distribution), "untar", config_key="GWMS_BOSCO_CVMFSEXEC_DIR")]
    for name in SCRIPTS:
        files.append(Item(name, pack_script(name, sources), "exec", PERIOD_S if name == "cvmfs_check" else 0))
    return [*files, Item("payload_wrapper.sh", pack_script("payload_wrapper.sh", sources), "wrapper")]


def prepare(tmp_path: Path, distribution: Path, then: str = "") -> tuple[StageArea, Path]:
    """Write the stage area and the pilot's start folder."""
    web, start = tmp_path / "web", tmp_path / "start"
    web.mkdir()
    start.mkdir()
    area = StageArea(web)
    last = LAST_SCRIPT.format(variables=main_variables(), compose=composing_script(), hello=HELLO, then=then)
    area.write(entry_files(distribution), {"GWMS_BOSCO_CVMFS_REPOS": REPOSITORY}, last)
    (start / "glidein_startup.sh").write_bytes(stage_area.startup_script())
    for path in (start, start / "glidein_startup.sh"):
        os.chown(path, UID, UID)
    return area, start


def nothing_mounted(node: Node) -> None:
    wait_until(lambda: node.run(["ls", "/tmp/gwms-bosco-2001"]).stdout == b"")
    assert b"/gwms_bosco/" not in node.run(["cat", "/proc/self/mountinfo"]).stdout
    listed = node.run(["ps", "-u", str(UID), "-o", "args="], user=0).stdout.decode()
    assert "cvmfs" not in listed


def test_a_pilot_gets_cvmfs_runs_payloads_and_leaves_nothing(
    make_node: MakeNode, tmp_path: Path, distribution: Path
) -> None:
    node = make_node()
    area, start = prepare(tmp_path, distribution)
    with stage_area.served(area.folder) as url:
        ended = node.run([*PILOT, *area.arguments(url)], cwd=start)
    out = ended.stdout.decode()
    assert ended.returncode == 0, out + ended.stderr.decode()[-4000:]
    assert "payload: hello from a stand-in repository" in out
    assert "payload's exit code: 42" in out
    assert "periodic: GWMS_BOSCO_CVMFS_OK = True" in out
    assert "HAS_CVMFS True" in out
    assert "variable: GWMS_BOSCO_CVMFS S - + N Y -" in out
    assert ended.stderr.decode().count("=== validation OK in") >= len(SCRIPTS)
    assert "did not produce an XML file" not in out + ended.stderr.decode()
    assert [path.name for path in start.iterdir()] == ["glidein_startup.sh"]
    nothing_mounted(node)


def test_term_reaches_the_payload_with_cvmfs_still_there(
    make_node: MakeNode, tmp_path: Path, distribution: Path
) -> None:
    node = make_node()
    said = tmp_path / "said"
    said.touch()
    os.chown(said, UID, UID)
    area, start = prepare(tmp_path, distribution, then=KILLED.format(hello=HELLO, said=said))
    with stage_area.served(area.folder) as url:
        node.run([*PILOT, *area.arguments(url)], cwd=start)
    wait_until(lambda: "hello from a stand-in repository" in said.read_text())
    nothing_mounted(node)
