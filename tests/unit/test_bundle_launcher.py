# SPDX-License-Identifier: Apache-2.0
"""bin/blahpd and bin/condor_ft-gahp: a gahp keeps the version it was started with."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from tests.unit.bundle_login import SHELLS

_PROBE = """#!/bin/sh
printf '%s\\n' "$0" "$#" "$@" "${BLAHPD_LOCATION-unset}" "${GLITE_LOCATION-unset}" "${CONDOR_CONFIG-unset}" \
    "${BLAHPD_CONFIG_LOCATION-unset}"
"""

pytestmark = pytest.mark.parametrize("shell", SHELLS)


@pytest.fixture()
def bosco(tmp_path: Path) -> Path:
    """Version A with a link glite -> versions/A; the home has a blank in its name."""
    bosco = tmp_path / "my home/bosco"
    launcher = (resources.files("glideinwms_bosco.bundle") / "files/common/launcher").read_bytes()
    for name in ("blahpd", "condor_ft-gahp", "other"):
        for path, content in ((f"bin/{name}", launcher), (f"libexec/{name}.bin", _PROBE.encode())):
            place = bosco / "versions/A" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o755)
    (bosco / "glite").symlink_to("versions/A")
    return bosco


def run(shell: str, path: str, *arguments: str, cwd: Path) -> list[str]:
    program = shutil.which(shell) or shell
    start = [program, "sh"] if shell == "busybox" else [program]
    # A login shell may export CDPATH, and an HTCondor-CE's profile the other one.
    environment = {"PATH": os.defpath, "CDPATH": f"{cwd}:/", "BLAHPD_CONFIG_LOCATION": "/etc/blah.config"}
    done = subprocess.run(
        [*start, path, *arguments], cwd=cwd, env=environment, capture_output=True, timeout=30, check=False, text=True
    )
    return done.stdout.splitlines()


def test_blahpd_gets_the_resolved_version(bosco: Path, shell: str) -> None:
    version = f"{bosco}/versions/A"
    seen = run(shell, f"{bosco}/glite/bin/blahpd", "a b", "*", cwd=bosco)
    assert seen == [f"{version}/libexec/blahpd.bin", "2", "a b", "*", version, version, "unset", "unset"]


def test_ft_gahp_gets_its_configuration_and_nothing_of_blahp(bosco: Path, shell: str) -> None:
    version = f"{bosco}/versions/A"
    seen = run(shell, f"{bosco}/glite/bin/condor_ft-gahp", "-f", cwd=bosco)
    assert seen[:3] == [f"{version}/libexec/condor_ft-gahp.bin", "1", "-f"]
    assert seen[3:6] == ["unset", "unset", f"{version}/etc/condor_config.ft-gahp"]


def test_relative_call_ignores_cdpath(bosco: Path, shell: str) -> None:
    assert run(shell, "bin/blahpd", cwd=bosco / "versions/A")[0] == f"{bosco}/versions/A/libexec/blahpd.bin"


def test_unknown_name_is_refused(bosco: Path, shell: str) -> None:
    assert run(shell, f"{bosco}/glite/bin/other", cwd=bosco) == []


def test_running_gahp_leaves_a_lease(bosco: Path, shell: str) -> None:
    (bosco / "leases").mkdir()
    for name in ("blahpd", "condor_ft-gahp"):
        (bosco / f"versions/A/libexec/{name}.bin").write_text("#!/bin/sh\ncat /proc/$$/stat\n")
        (line,) = run(shell, f"{bosco}/glite/bin/{name}", "a b", cwd=bosco)
        pid, start = line.split()[0], line.rpartition(")")[2].split()[19]
        (lease,) = (bosco / "leases").iterdir()
        assert lease.name == f"A@{pid}.{start}@{os.uname().nodename}"
        assert lease.stat().st_size == 0
        lease.unlink()


@pytest.mark.parametrize("case", ["no directory", "a file", "not writable"])
def test_lease_that_cannot_be_written_stops_nothing(bosco: Path, shell: str, case: str) -> None:
    if case == "a file":
        (bosco / "leases").touch()
    elif case == "not writable":
        if os.geteuid() == 0:
            pytest.skip("root writes everywhere")
        (bosco / "leases").mkdir(mode=0o500)
    program = shutil.which(shell) or shell
    start = [program, "sh"] if shell == "busybox" else [program]
    argv = [*start, f"{bosco}/glite/bin/blahpd"]
    done = subprocess.run(argv, env={"PATH": os.defpath}, capture_output=True, timeout=30, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{bosco}/versions/A/libexec/blahpd.bin")
