# SPDX-License-Identifier: Apache-2.0
"""Several HTCondor sources: each login node gets the newest that runs there, or one line that says why none does.

There are two real builds, of the lab's two root file systems, and one copy whose ELF headers say another machine.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.operator import STATE, USER, add_site, gwms_bosco, key_of
from tests.lab.settings import PROFILES
from tests.lab.sites import LabSite
from tests.lab.test_refusals import REFUSED, REMOTE, refused, tree

SOURCES = "/srv/htcondor"
PARTS = ("usr/bin/blahpd", "usr/sbin/condor_ft-gahp", "usr/libexec/blahp", "etc/blah.config", "etc/blahp")
LIBRARIES = ("usr/lib/libcondor_utils*", "usr/lib/libclassad.so*")
VERSIONS = {"trixie": "23.9.6", "next": "25.14.1"}
PATCHED = "patched-elf-headers"


def copy_htcondor(root: Path, target: Path) -> None:
    """Copy what a bundle is made of out of a root file system."""
    libraries = [path.relative_to(root) for pattern in LIBRARIES for path in root.glob(pattern)]
    for part in (*map(Path, PARTS), *libraries):
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (root / part).is_dir():
            shutil.copytree(root / part, target / part, symlinks=True)
        else:
            shutil.copy2(root / part, target / part, follow_symlinks=False)
    for link in (target / "usr/libexec/blahp").iterdir():
        # Debian's links are absolute; no release tarball has such.
        if link.is_symlink() and link.readlink().is_absolute():
            relative = f"../../..{link.readlink()}"
            link.unlink()
            link.symlink_to(relative)


def patch_headers(root: Path) -> None:
    """Let the ELF headers say a machine that no host of the lab is."""
    machine = 62 if platform.machine() == "aarch64" else 183  # EM_X86_64, EM_AARCH64
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
            data = bytearray(path.read_bytes())
            data[18:20] = machine.to_bytes(2, "little")
            path.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def sources(lab: Lab) -> list[dict[str, str]]:
    """`htcondor` of a site file: the newest first as a tarball, the patched copy, the older one as a folder."""
    place = lab.host_root("factory") / SOURCES.lstrip("/")
    for profile in PROFILES:
        copy_htcondor(Lab(lab.name, profile).provide_rootfs("factory"), place / profile)
    shutil.copytree(place / "next", place / PATCHED, symlinks=True)
    patch_headers(place / PATCHED)
    archive = place / "condor-next.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(place / "next", "condor-next")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return [
        {"tarball": f"{SOURCES}/{archive.name}", "sha256": sha256},
        {"root": f"{SOURCES}/{PATCHED}"},
        {"root": f"{SOURCES}/trixie"},
    ]


def reasons(report: dict[str, dict[str, list[dict[str, str]]]]) -> dict[str, str]:
    return {item["source"].rpartition("/")[2]: item["reason"] for item in report["sources"]["rejected"]}


def test_login_node_gets_the_newest_that_runs_there(lab: Lab, sources: list[dict[str, str]]) -> None:
    """The C library of the older system would do for both: it is the version of a library that decides."""
    site = LabSite("choice", install={"htcondor": sources})
    site.add(lab)
    before = tree(lab, "login", "/shared")
    report = site.deploy(lab, "--dry-run")
    assert tree(lab, "login", "/shared") == before
    told = reasons(report)
    assert told[f"{PATCHED} (25.14.1)"].startswith("is for ")
    if lab.profile == "trixie":
        assert report["sources"]["chosen"].endswith("/trixie (23.9.6)")
        assert "libpcre2-8.so.0 with PCRE2_" in told["condor-next.tar.gz (25.14.1)"]
    else:
        assert report["sources"]["chosen"] == "condor-next.tar.gz (25.14.1)"
        assert told["trixie (23.9.6)"] == "older"
    report = site.deploy(lab)
    assert report["action"] == "installed"
    assert site.test(lab, "--exit-code", "3")["passed"]
    assert site.deploy(lab)["action"] == "unchanged"


def test_login_node_that_none_fits_is_told_every_reason(lab: Lab, sources: list[dict[str, str]]) -> None:
    lab.ensure("login-old")
    site = LabSite("nofit", host="login-old", install={"htcondor": sources})
    add_site(lab, site.name, site.text(lab))
    before = tree(lab, "login-old", "/home")
    try:
        line = refused(lab, REMOTE, "remote", "deploy", site.name, "--key", key_of("pilot"))
    finally:
        site.remove(lab)
    assert tree(lab, "login-old", "/home") == before
    assert "no HTCondor source runs on " in line
    assert "glibc 2.36" in line
    assert "condor-next.tar.gz (25.14.1) needs glibc 2.38" in line
    assert f"{PATCHED} (25.14.1) is for " in line
    assert "/trixie (23.9.6) needs glibc 2.38" in line


def test_tarball_is_read_once_for_all_commands(lab: Lab, sources: list[dict[str, str]]) -> None:
    """What it is and the bundle made of it are remembered by content, so the file itself is needed no more."""
    site = LabSite("remembered", install={"htcondor": sources[:1]})
    site.add(lab)
    first = gwms_bosco(lab, "bundle", "show", site.name, "--json").stdout
    assert gwms_bosco(lab, "bundle", "show", site.name, "--platform", "x86_64:2.41").returncode == 0
    moved = f"{SOURCES}/moved.tar.gz"
    lab.run("factory", ["mv", sources[0]["tarball"], moved])
    try:
        assert gwms_bosco(lab, "bundle", "show", site.name, "--json").stdout == first
    finally:
        lab.run("factory", ["mv", moved, sources[0]["tarball"]])
    folders = lab.run("factory", ["ls", f"{STATE}/sources", f"{STATE}/bundles/built"], user=USER).stdout
    assert f"{sources[0]['sha256']}.json" in folders


def test_files_laid_over_reach_the_job(lab: Lab) -> None:
    script = "#!/bin/sh\necho '#SBATCH --comment=laid-over'\n"
    override = {"path": "libexec/slurm_local_submit_attributes.sh", "content": script}
    site = LabSite("laidover", install={"overrides": [override]})
    site.add(lab)
    report = site.deploy(lab)
    (told,) = report["overrides"]
    assert told["path"] == override["path"]
    assert told["sha256"] == hashlib.sha256(script.encode()).hexdigest()
    assert told["replaced_origin"].endswith("slurm_local_submit_attributes.sh")
    assert site.test(lab, "--exit-code", "3")["passed"]
    assert "Comment=laid-over" in lab.run("login", ["scontrol", "show", "jobs"]).stdout


def test_bad_file_of_the_host_is_named_by_its_own_line(lab: Lab) -> None:
    site = LabSite("badhost")
    site.add(lab)
    folder = "/etc/gwms-bosco/overrides/slurm/libexec"
    lab.run("factory", ["install", "-d", folder])
    lab.write_file("factory", f"{folder}/helper.sh", "#!/bin/sh\n)\n", mode=0o755)
    try:
        done = gwms_bosco(lab, "site", "check", site.name, check=False)
        assert f"{folder}/helper.sh:2: error: " in done.stderr
        line = refused(lab, REFUSED, "remote", "deploy", site.name, "--key", key_of("pilot"))
        assert "helper.sh:2: " in line
    finally:
        lab.run("factory", ["rm", "-rf", "/etc/gwms-bosco/overrides"])
