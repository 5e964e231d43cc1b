# SPDX-License-Identifier: Apache-2.0
"""Two operators change one account at the same time: one wins, the other is told who has it, and nothing gets mixed.

Both run the command on the factory, with site files of their own that give different bundles for the same folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import USER, gwms_bosco, key_of
from tests.lab.sites import LabSite
from tests.lab.waiting import await_true

OK, REMOTE = 0, 3
FOLDER = "bosco-race"
HOME = "/shared/pilot"
GATE = "/var/lib/gwms-gate"
ANN, BOB = (
    LabSite(name, install={"bosco_dir": FOLDER}, batch={"settings": {"bosco_test": name}}) for name in ("ann", "bob")
)
# Unpacking waits until the test opens the other end of the pipe.
_TAR = f"""\
#!/bin/sh
touch {GATE}/reached
cat {GATE}/pipe
exec /usr/bin/tar "$@"
"""
_BUSY = re.compile(r"is changing this account: |another operator is changing this account|: the account ")


@pytest.fixture(scope="module")
def sites(lab: Lab) -> Iterator[None]:
    for site in (ANN, BOB):
        site.add(lab)
    yield
    for site in (ANN, BOB):
        site.remove(lab)
    lab.run("login", ["rm", "-rf", FOLDER], user="pilot")


@pytest.fixture(autouse=True)
def _empty(lab: Lab, sites: None) -> None:
    del sites
    lab.run("login", ["rm", "-rf", FOLDER], user="pilot")


def argv(verb: str, site: LabSite, *options: str) -> list[str]:
    return ["remote", verb, site.name, "--key", key_of("pilot"), *options]


def current(lab: Lab) -> str:
    """The version that `glite` points to; empty when there is no link."""
    script = f"readlink {FOLDER}/glite || :"
    return lab.run("login", ["sh", "-c", script], user="pilot").stdout.strip().rpartition("/")[2]


def report(lab: Lab, verb: str, site: LabSite, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gwms_bosco(lab, *argv(verb, site, "--json", *options)).stdout)
    return found


@contextmanager
def deploy_that_waits(lab: Lab, site: LabSite) -> Iterator[Any]:
    """A deploy that has the account's lock and waits for its archive to be unpacked; the gate opens at the end."""
    lab.run("login", ["sh", "-c", f"mkdir -p {GATE}/bin && mkfifo -m 666 {GATE}/pipe && chmod 777 {GATE}"])
    lab.write_file("login", f"{GATE}/bin/tar", _TAR, mode=0o755)
    lab.write_file("login", f"{HOME}/.bashrc", f"PATH={GATE}/bin:$PATH\n", "pilot:pilot")
    process = lab.popen("factory", ["gwms-bosco", *argv("deploy", site)], user=USER)
    try:
        reached = ["test", "-e", f"{GATE}/reached"]
        await_true(lambda: lab.run("login", reached, check=False).returncode == 0, "the deploy unpacks")
        lab.run("login", ["rm", f"{HOME}/.bashrc"])
        yield process
    finally:
        lab.run("login", ["sh", "-c", f"rm -f {HOME}/.bashrc; : <>{GATE}/pipe; rm -rf {GATE}"])
        process.kill()
        process.communicate()


@pytest.mark.parametrize("verb", ["deploy", "rollback", "gc", "remove"])
def test_second_operator_is_told_who_has_the_account_and_changes_nothing(lab: Lab, verb: str) -> None:
    # Two versions and a leftover, so that each command has something to do.
    first = BOB.deploy(lab)["digest"]
    third = LabSite("ann", install=ANN.install, batch={"settings": {"bosco_test": "third"}})
    third.add(lab)
    before = third.deploy(lab)["digest"]
    ANN.add(lab)
    lab.run("login", ["touch", f"{FOLDER}/.history-0"], user="pilot")
    with deploy_that_waits(lab, ANN) as winner:
        told = gwms_bosco(lab, *argv(verb, BOB), check=False)
        assert told.returncode == REMOTE, told.stdout
        assert re.search(r"factory@\S+ is changing this account: deploy since .* \(process \d+ on login\)", told.stderr)
        assert current(lab) == before
        versions = lab.run("login", ["ls", f"{FOLDER}/versions"], user="pilot").stdout.split()
        assert sorted(versions) == sorted((first, before))
        lab.run("login", ["sh", "-c", f": >{GATE}/pipe"])
        out, err = winner.communicate(timeout=180)
        assert winner.returncode == OK, out + err
    won = report(lab, "verify", ANN, "--all-versions")
    assert won["clean"]
    assert won["current"] not in (first, before)
    # And now it is the other's turn.
    gwms_bosco(lab, *argv(verb, BOB))


PAIRS = [
    ("deploy", "deploy"),
    ("deploy", "rollback"),
    ("deploy", "gc"),
    ("deploy", "remove"),
    ("rollback", "rollback"),
    ("gc", "remove"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_whatever_meets_leaves_whole_versions(lab: Lab, pair: tuple[str, str]) -> None:
    """Nobody is held up here; each run meets in another way, and each must end well."""
    for _ in range(2):
        ANN.deploy(lab)
        BOB.deploy(lab)
        commands = [argv(verb, site) for verb, site in zip(pair, (ANN, BOB))]
        running = [lab.popen("factory", ["gwms-bosco", *command], user=USER) for command in commands]
        ends = [process.communicate(timeout=360) for process in running]
        statuses = [process.returncode for process in running]
        assert OK in statuses or "remove" in pair, ends
        for status, (_, err) in zip(statuses, ends):
            assert status in (OK, REMOTE), err
            assert "internal error" not in err
            assert status == OK or _BUSY.search(err) or "remove" in pair, err
        if current(lab):
            found = report(lab, "verify", ANN, "--all-versions")
            assert found["current"] in found["there"]
        else:
            assert "remove" in pair
        left = lab.run("login", ["sh", "-c", f"ls -d {FOLDER}/.* {FOLDER}/versions/.* 2>/dev/null || :"], user="pilot")
        assert {line.rpartition("/")[2] for line in left.stdout.split()} <= {".", ".."}, "nothing is left over"
