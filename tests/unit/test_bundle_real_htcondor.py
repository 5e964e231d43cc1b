# SPDX-License-Identifier: Apache-2.0
"""Bundles from a real HTCondor: GWMS_TEST_CONDOR_ROOT names a root directory that has the `condor` package."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.bundle import Bundle, BundleRequest, HTCondorSource, build_bundle, load_bundle
from glideinwms_bosco.bundle.layout import LAYOUTS
from tests.unit.bundle_fake import make_release_like_tarball
from tests.unit.bundle_login import LoginNode

ROOT = os.environ.get("GWMS_TEST_CONDOR_ROOT", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="GWMS_TEST_CONDOR_ROOT names no HTCondor root")


@pytest.fixture(scope="module")
def slurm() -> Bundle:
    return build_bundle(HTCondorSource(root=ROOT), BundleRequest("slurm"))


@pytest.mark.parametrize("batch_system", list(LAYOUTS))
def test_bundle_is_complete_and_comes_back(batch_system: str, tmp_path: Path) -> None:
    bundle = build_bundle(HTCondorSource(root=ROOT), BundleRequest(batch_system))
    bundle.write_archive(tmp_path / "b.tar.gz")
    assert load_bundle(tmp_path / "b.tar.gz") == bundle
    assert (tmp_path / "b.tar.gz").stat().st_size < 8 << 20
    assert bundle.manifest.htcondor_version.count(".") == 2
    assert bundle.manifest.glibc_min.startswith("2.")
    assert "libc.so.6" in bundle.manifest.system_libraries
    assert not [name for name in bundle.manifest.system_libraries if "condor" in name or "classad" in name]


def test_release_like_tarball_gives_the_same_digest(slurm: Bundle, tmp_path: Path) -> None:
    """A release cannot be had here: the tarball is made in release layout from the files of the installed one."""
    copy = tmp_path / "root"
    for file in slurm.files.values():
        if not file.origin.startswith("gwms-bosco"):
            (copy / file.origin).parent.mkdir(parents=True, exist_ok=True)
            source = Path(ROOT) / file.origin
            if source.is_symlink():
                source = Path(ROOT) / str(source.readlink()).lstrip("/")
            shutil.copyfile(source, copy / file.origin)
    sha256 = make_release_like_tarball(tmp_path / "condor.tar.gz", copy)
    source_of = HTCondorSource(tarball=str(tmp_path / "condor.tar.gz"), sha256=sha256)
    assert build_bundle(source_of, BundleRequest("slurm")).digest == slurm.digest


@pytest.mark.parametrize(
    ("scontrol", "answer"),
    [
        ("JobId=7 JobName=x UserId=p(1) JobState=FAILED ExitCode=3:0 \n", "ExitCode=3;"),
        ("JobId=7 JobName=x UserId=p(1) JobState=COMPLETED ExitCode=0:0 \n", "ExitCode=0;"),
        ("slurm_load_jobs error: Invalid job id specified\n", "ExitCode=255;"),
    ],
)
def test_stock_status_script_reports_the_exit_code(slurm: Bundle, tmp_path: Path, scontrol: str, answer: str) -> None:
    """HTCondor's own slurm_status.py, repaired, with our commands beside it and fake Slurm behind them."""
    login = LoginNode(tmp_path, "slurm")
    for path in ("slurm_status.py", "blah.py"):
        place = login.version / "libexec" / path
        place.write_bytes(slurm.files[f"libexec/{path}"].content)
    (login.version / "etc/blah.config").write_bytes(slurm.files["etc/blah.config"].content)
    login.fake("squeue")
    login.fake("sacct", "Slurm accounting storage is disabled\n", 1)
    login.fake("scontrol", scontrol, int("Invalid" in scontrol))
    done = subprocess.run(
        ["python3", "-W", "ignore", str(login.version / "libexec/slurm_status.py"), "-w", "slurm/20261120/7"],
        env={**login.environment(), "BLAHPD_LOCATION": str(login.version)},
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.stdout.startswith('0[BatchJobId="7"; JobStatus=4;')
    assert answer in done.stdout
