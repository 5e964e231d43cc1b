# SPDX-License-Identifier: Apache-2.0
"""Building: the right files from any source, the same bytes each time, one clear line for each bad source."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.bundle import Bundle, BundleRequest, HTCondorSource, build_bundle
from glideinwms_bosco.bundle.elf import read_elf
from glideinwms_bosco.bundle.layout import LAYOUTS
from glideinwms_bosco.errors import SourceError
from tests.unit.bundle_fake import CLASSAD, UTILS, elf, make_release_like_tarball, make_root, version_string


def build(root: Path, request: BundleRequest) -> Bundle:
    return build_bundle(HTCondorSource(root=str(root)), request)


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


def lines(bundle: Bundle, path: str) -> list[str]:
    return bundle.files[path].content.decode().splitlines()


@pytest.mark.parametrize("batch_system", list(LAYOUTS))
def test_bundle_holds_just_the_files_of_its_batch_system(root: Path, batch_system: str) -> None:
    bundle = build(root, BundleRequest(batch_system))
    for name in ("bin/blahpd", "bin/condor_ft-gahp", "libexec/blahpd.bin", "libexec/condor_ft-gahp.bin"):
        assert bundle.files[name].mode == 0o755
    for action in ("submit", "status", "cancel", "ping", "hold", "resume", "local_submit_attributes"):
        assert f"libexec/{batch_system}_{action}.sh" in bundle.files
    assert {f"lib/{UTILS}", f"lib/{CLASSAD}", "etc/blah.config", "etc/condor_config.ft-gahp"} <= set(bundle.files)
    others = [name for name in LAYOUTS if name != batch_system]
    foreign = tuple(f"libexec/{name}_" for name in others)
    assert not [path for path in bundle.files if path.endswith(".sh") and path.startswith(foreign)]
    assert not [path for path in bundle.files if "__pycache__" in path or "blah.config.d" in path]
    assert "lib/libc.so.6" not in bundle.files
    assert "libc.so.6" in bundle.manifest.system_libraries
    assert bundle.manifest.htcondor_version == "23.9.6"
    assert bundle.manifest.htcondor_platform == "X86_64-Debian_13"
    assert bundle.manifest.source == f"installed HTCondor 23.9.6 at {root}"


def test_programs_find_the_bundles_libraries_first(root: Path) -> None:
    bundle = build(root, BundleRequest("slurm"))
    for path in ("libexec/condor_ft-gahp.bin", f"lib/{UTILS}"):
        assert read_elf(bundle.files[path].content, path).runpath == "$ORIGIN/../lib"
    assert ("runpath", f"lib/{UTILS}") in {(repair.name, repair.path) for repair in bundle.manifest.repairs}
    assert "libexec/blahpd.bin" not in {repair.path for repair in bundle.manifest.repairs}


def test_same_content_gives_the_same_archive(tmp_path: Path, root: Path) -> None:
    request = BundleRequest("slurm", "work/bosco", {"blah_wn_temporary_home_dir": "/scratch"}, "/opt/slurm/bin")
    first, second = build(root, request), build(root, request)
    first.write_archive(tmp_path / "a")
    second.write_archive(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_digest_depends_on_content_only_not_on_the_place_of_the_source(tmp_path: Path, root: Path) -> None:
    elsewhere = build(make_root(tmp_path / "other"), BundleRequest("slurm"))
    sha256 = make_release_like_tarball(tmp_path / "condor.tar.gz", root)
    tarball = HTCondorSource(tarball=(tmp_path / "condor.tar.gz").as_uri(), sha256=sha256)
    released = build_bundle(tarball, BundleRequest("slurm"))
    here = build(root, BundleRequest("slurm"))
    assert here.digest == elsewhere.digest == released.digest
    assert here.manifest.source != elsewhere.manifest.source
    assert released.manifest.source == "HTCondor release tarball 23.9.6 from condor.tar.gz"


def test_digest_changes_with_mode_content_and_request(root: Path) -> None:
    digests = {build(root, BundleRequest("slurm")).digest, build(root, BundleRequest("slurm", "other")).digest}
    (root / "usr/libexec/blahp/slurm_submit.sh").write_text("changed")
    digests.add(build(root, BundleRequest("slurm")).digest)
    assert len(digests) == 3


def test_blah_config_takes_settings_in_place_and_once(root: Path) -> None:
    text = lines(build(root, BundleRequest("slurm", blah_settings={"blah_job_wrapper": "/a b/c"})), "etc/blah.config")
    assert [line for line in text if line.startswith("slurm_binpath")] == [
        "slurm_binpath=${BLAHPD_LOCATION}/libexec/slurm"
    ]
    assert 'blah_job_wrapper="/a b/c"' in text
    assert "# shipped" in text


@pytest.mark.parametrize(
    ("batch_system", "line"),
    [
        ("slurm", "slurm_binpath=${BLAHPD_LOCATION}/libexec/slurm"),
        ("pbs", "pbs_binpath=${BLAHPD_LOCATION}/libexec/pbs"),
        ("lsf", "lsf_binpath=${BLAHPD_LOCATION}/libexec/lsf"),
        ("sge", "PATH=/opt/x/bin:$PATH"),
        ("condor", "condor_binpath=/opt/x/bin"),
    ],
)
def test_bin_path_reaches_the_batch_commands(root: Path, batch_system: str, line: str) -> None:
    bundle = build(root, BundleRequest(batch_system, bin_path="/opt/x/bin"))
    assert line in lines(bundle, "etc/blah.config")
    assert "bin_path=/opt/x/bin" in lines(bundle, "etc/bosco.conf")


def test_sandbox_and_log_lie_beside_the_versions(root: Path) -> None:
    text = lines(build(root, BundleRequest("sge", "w/b")), "etc/condor_config.ft-gahp")
    assert "BOSCO_SANDBOX_DIR = $ENV(HOME)/w/b/sandbox" in text
    assert "LOG = $ENV(HOME)/w/b/log" in text


def test_progress_is_told(root: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_bundle(HTCondorSource(root=str(root)), BundleRequest("pbs"), progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3, 4]
    assert {total for _, _, total in seen} == {4}


def test_every_command_of_a_passthrough_is_a_link_in_its_directory(root: Path) -> None:
    assert build(root, BundleRequest("slurm")).links == {
        f"libexec/slurm/{name}": "passthrough" for name in ("sbatch", "scancel", "scontrol")
    }


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("usr/bin/blahpd", None, "no blahpd"),
        ("usr/libexec/blahp/slurm_ping.sh", None, "no slurm_ping.sh"),
        ("etc/blah.config", None, "no blah.config"),
        ("etc/blahp/slurm_local_submit_attributes.sh", None, "no slurm_local_submit_attributes.sh"),
        (f"usr/lib/{UTILS}", None, f"no {UTILS}"),
        ("usr/bin/blahpd", b"#!/bin/sh\n", "not an ELF file"),
        ("usr/bin/blahpd", b"\x7fELF\x02\x01\x01", "damaged ELF"),
        ("etc/blah.config", b"\xff\xfe", "not text"),
    ],
)
def test_bad_source_is_one_clear_line(root: Path, path: str, content: Optional[bytes], text: str) -> None:
    (root / path).unlink()
    if content is not None:
        (root / path).write_bytes(content)
    with pytest.raises(SourceError, match=text) as caught:
        build(root, BundleRequest("slurm"))
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_refuses_mixed_architectures(root: Path) -> None:
    other = bytearray(elf())
    other[18:20] = (183).to_bytes(2, "little") if other[18] != 183 else (62).to_bytes(2, "little")
    (root / "usr/bin/blahpd").write_bytes(bytes(other))
    with pytest.raises(SourceError, match=r"mixed architectures.*aarch64.*x86_64"):
        build(root, BundleRequest("slurm"))


def test_refuses_unknown_machine(root: Path) -> None:
    other = bytearray(elf())
    other[18:20] = (243).to_bytes(2, "little")
    (root / "usr/bin/blahpd").write_bytes(bytes(other))
    with pytest.raises(SourceError, match="unknown machine"):
        build(root, BundleRequest("slurm"))


def test_refuses_mixed_versions_and_a_missing_version(root: Path) -> None:
    gahp = root / "usr/sbin/condor_ft-gahp"
    gahp.write_bytes(elf(CLASSAD, UTILS) + version_string("24.0.1"))
    with pytest.raises(SourceError, match=r"23\.9\.6 and 24\.0\.1"):
        build(root, BundleRequest("slurm"))
    gahp.write_bytes(elf(CLASSAD, UTILS))
    (root / f"usr/lib/{UTILS}").write_bytes(elf(CLASSAD))
    with pytest.raises(SourceError, match="CondorVersion"):
        build(root, BundleRequest("slurm"))


def test_refuses_a_root_that_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a directory"):
        build(tmp_path / "none", BundleRequest("slurm"))


def test_link_loop_in_the_source_ends(root: Path) -> None:
    loop = root / "etc/blah.config"
    loop.unlink()
    loop.symlink_to("blah.config")
    with pytest.raises(SourceError, match="too many symbolic links"):
        build(root, BundleRequest("slurm"))


def test_absolute_link_stays_below_the_root(root: Path) -> None:
    """A link to /etc/... of a root file system must never read the factory's own /etc."""
    place = root / "usr/libexec/blahp/slurm_submit.sh"
    place.unlink()
    place.symlink_to("/../../etc/hostname-of-root")
    (root / "etc/hostname-of-root").write_text("inside")
    bundle = build(root, BundleRequest("slurm"))
    assert bundle.files["libexec/slurm_submit.sh"].content == b"inside"


def test_shell_files_pass_shellcheck() -> None:
    folder = Path(__file__).parents[2] / "glideinwms_bosco/bundle/files"
    files = sorted(str(place) for place in folder.rglob("*") if place.is_file())
    try:
        done = subprocess.run(
            ["shellcheck", "-x", "-P", str(folder.parents[2]), *files], capture_output=True, timeout=120, check=False
        )
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed")
    assert done.stdout.decode() == ""
