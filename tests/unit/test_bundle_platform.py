# SPDX-License-Identifier: Apache-2.0
"""What a source needs is read from its programs; tarballs are remembered by digest, and so are their bundles."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from glideinwms_bosco.bundle import Bundle, BundleRequest, HTCondorSource, build_bundle, store
from glideinwms_bosco.bundle.elf import ElfInfo, highest_versions, read_elf
from glideinwms_bosco.bundle.extra import ExtraFile
from glideinwms_bosco.bundle.platform import SourcePlatform, platform_of, read_platform
from glideinwms_bosco.bundle.programs import Programs
from glideinwms_bosco.bundle.store import MAX_KEPT, BundleStore
from glideinwms_bosco.bundle.tree import SourceFile
from glideinwms_bosco.errors import SourceError
from tests.unit.bundle_fake import elf, make_release_like_tarball, make_root

REQUEST = BundleRequest("slurm")


@pytest.fixture()
def tarball(tmp_path: Path) -> HTCondorSource:
    path = tmp_path / "condor.tar.gz"
    return HTCondorSource(tarball=str(path), sha256=make_release_like_tarball(path, make_root(tmp_path / "root")))


def test_highest_version_of_each_kind_is_kept() -> None:
    versions = [("a.so", "G_3.4.9"), ("a.so", "G_3.4.30"), ("a.so", "CXX_1.3"), ("b.so", "G_1"), ("b.so", "plain")]
    kept = (("a.so", "CXX_1.3"), ("a.so", "G_3.4.30"), ("b.so", "G_1"), ("b.so", "plain"))
    assert highest_versions(versions) == kept


def test_versions_of_a_real_file_leave_out_the_c_library() -> None:
    info = read_elf(elf(), "true")
    assert info.glibc is not None
    assert not [version for _, version in info.versions if version.startswith("GLIBC_")]


def test_libraries_of_its_own_and_of_the_c_library_are_no_needs() -> None:
    program = ElfInfo(
        "x86_64",
        ("libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libstdc++.so.6", "libuuid.so.1", "libclassad.so.1"),
        "",
        (2, 34),
        (("libstdc++.so.6", "GLIBCXX_3.4.30"), ("libclassad.so.1", "X_1")),
    )
    library = ElfInfo("x86_64", ("libstdc++.so.6",), "", (2, 38), (("libstdc++.so.6", "GLIBCXX_3.4.32"),))
    elves = {"libexec/blahpd.bin": program, "lib/libclassad.so.1": library}
    files = {path: SourceFile(path, b"") for path in elves}
    found = platform_of(Programs(files, elves, "24.0.1", "x"))
    assert found == SourcePlatform(
        "x86_64", "2.38", "24.0.1", (("libstdc++.so.6", "GLIBCXX_3.4.32"), ("libuuid.so.1", ""))
    )


def test_root_and_tarball_of_it_are_the_same_platform(tarball: HTCondorSource, tmp_path: Path) -> None:
    from_root = read_platform(HTCondorSource(root=str(tmp_path / "root")))
    assert from_root == read_platform(tarball)
    assert (from_root.architecture, from_root.htcondor_version) == (os.uname().machine, "23.9.6")
    assert from_root.release == (23, 9, 6)


def test_known_tarball_is_not_opened(tarball: HTCondorSource, tmp_path: Path) -> None:
    first = read_platform(tarball, tmp_path / "records")
    Path(str(tarball.tarball)).unlink()
    assert read_platform(tarball, tmp_path / "records") == first
    with pytest.raises(SourceError, match="cannot read tarball"):
        read_platform(replace(tarball, sha256="0" * 64), tmp_path / "records")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '[1,"x86_64","2.38","1.2.3",[["a b",""]]]', '[9,"x86_64","2.38","1.2.3",[]]',
     '[1,"x86_64","2.38","1.2",[]]', '[1,7,"2.38","1.2.3",[]]', '[1,"x86_64","2.38","1.2.3",[["a"]]]', "[" * 9999],
)  # fmt: skip
def test_record_of_another_form_is_read_anew(tarball: HTCondorSource, tmp_path: Path, text: str) -> None:
    right = read_platform(tarball, tmp_path / "records")
    record = tmp_path / "records" / f"{tarball.sha256}.json"
    record.write_text(text)
    assert read_platform(tarball, tmp_path / "records") == right
    assert record.read_text() != text


def test_records_that_cannot_be_written_are_no_failure(tarball: HTCondorSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert read_platform(tarball, tmp_path / "file" / "records").htcondor_version == "23.9.6"


@pytest.fixture()
def builds(monkeypatch: pytest.MonkeyPatch) -> list[BundleRequest]:
    """Requests that were really built."""
    made: list[BundleRequest] = []

    def counting(source: HTCondorSource, request: BundleRequest) -> Bundle:
        made.append(request)
        return build_bundle(source, request)

    monkeypatch.setattr(store, "build_bundle", counting)
    return made


def test_bundle_of_a_tarball_is_built_once(
    tarball: HTCondorSource, tmp_path: Path, builds: list[BundleRequest]
) -> None:
    first = BundleStore(tmp_path / "s").get(tarball, REQUEST)
    Path(str(tarball.tarball)).unlink()
    again = BundleStore(tmp_path / "s").get(tarball, REQUEST)
    assert again.manifest == first.manifest
    assert len(builds) == 1


def test_another_request_or_extra_file_is_another_bundle(
    tarball: HTCondorSource, tmp_path: Path, builds: list[BundleRequest]
) -> None:
    kept = BundleStore(tmp_path / "s")
    requests = [REQUEST, BundleRequest("slurm", "other"), BundleRequest("slurm", blah_settings={"a": "b"})]
    requests += [replace(REQUEST, extra_files=(ExtraFile("etc/x", content, "o"),)) for content in (b"1", b"2")]
    digests = {kept.get(tarball, request).digest for request in requests}
    assert len(digests) == len(builds) == len(requests)


def test_damaged_bundle_is_built_again(tarball: HTCondorSource, tmp_path: Path, builds: list[BundleRequest]) -> None:
    kept = BundleStore(tmp_path / "s")
    digest = kept.get(tarball, REQUEST).digest
    (path,) = (tmp_path / "s").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert kept.get(tarball, REQUEST).digest == digest
    assert len(builds) == 2
    assert kept.get(tarball, REQUEST).digest == digest
    assert len(builds) == 2


def test_what_is_installed_is_built_each_time(tmp_path: Path) -> None:
    source = HTCondorSource(root=str(make_root(tmp_path / "root")))
    first = BundleStore(tmp_path / "s").get(source, REQUEST)
    (tmp_path / "root/usr/libexec/blahp/slurm_submit.sh").write_text("new")
    assert BundleStore(tmp_path / "s").get(source, REQUEST).digest != first.digest
    assert not (tmp_path / "s").exists()


def test_oldest_bundles_are_dropped(tarball: HTCondorSource, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for number in range(MAX_KEPT):
        path = folder / f"{number}.tar.gz"
        path.write_text("")
        os.utime(path, (number, number))
    BundleStore(folder).get(tarball, REQUEST)
    names = {path.name for path in folder.iterdir()}
    assert len(names) == MAX_KEPT
    assert "0.tar.gz" not in names
    assert "1.tar.gz" in names


def test_store_that_cannot_be_written_is_no_failure(tarball: HTCondorSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert BundleStore(tmp_path / "file" / "s").get(tarball, REQUEST).digest
