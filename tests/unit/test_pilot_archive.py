# SPDX-License-Identifier: Apache-2.0
"""Archives that pilots bring along: the same bytes everywhere, bounded, and nothing leads out of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Union

import pytest

from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot import distribution, tree
from glideinwms_bosco.pilot.distribution import pack_ca, pack_cvmfsexec
from glideinwms_bosco.pilot.tree import gunzipped, gzipped, read_folder, read_tar, tar_stream
from tests.unit.pilot_world import make_ca, make_distribution, members, special, tar_of

DIST = {"cvmfsexec": b"#!/bin/bash\n", "dist/.cvmfsexecdist": b"disttype: standard\n"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def given(folder: Path, content: bytes) -> tuple[Path, str]:
    """A distribution file and its digest."""
    path = folder / "cvmfsexec.tar.gz"
    path.write_bytes(content)
    return path, sha256(content)


def test_distribution_of_a_folder_has_what_pilots_need_and_nothing_else(tmp_path: Path) -> None:
    found = members(pack_cvmfsexec(make_distribution(tmp_path / "dist")))
    assert set(found) == {
        *("cvmfsexec", "mountrepo", "dist", "dist/.cvmfsexecdist", "dist/usr", "dist/usr/bin", "dist/usr/bin/cvmfs2"),
        *("dist/usr/lib64", "dist/usr/lib64/libcvmfs.so", "dist/cvmfs", "dist/var", "dist/var/lib", "dist/var/run"),
        *("dist/var/lib/cvmfs", "dist/var/run/cvmfs"),
    }
    assert found["dist/usr/lib64/libcvmfs.so"].linkname == "libcvmfs.so.2.12"
    assert found["dist/usr/bin/cvmfs2"].mode == 0o755
    assert found["dist/.cvmfsexecdist"].mode == 0o644 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_same_folder_made_elsewhere_at_another_time_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = make_distribution(tmp_path / "one"), make_distribution(tmp_path / "two")
    os.utime(two / "cvmfsexec", (1, 1))
    assert pack_cvmfsexec(one) == pack_cvmfsexec(two)
    assert gzipped(pack_cvmfsexec(one)) == gzipped(pack_cvmfsexec(two))


@pytest.mark.parametrize("top", ["", "./", "cvmfsexec/", "./a/"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_file_gives_what_its_folder_gives(tmp_path: Path, top: str, mode: str) -> None:
    path, digest = given(tmp_path, tar_of({top + name: text for name, text in DIST.items()}, mode))
    assert pack_cvmfsexec(path, digest) == tar_stream(read_tar(tar_of(DIST), "x"))


def test_self_extracting_file_gives_what_it_holds(tmp_path: Path) -> None:
    script = b'#!/bin/bash\nBASEDIR="$(cd `dirname $0` && pwd)"\nexec $BASE/cvmfsexec "$@"\n__TAR_BELOW__\n'
    path, digest = given(tmp_path, script + tar_of(DIST))
    assert pack_cvmfsexec(path, digest) == tar_stream(read_tar(tar_of(DIST), "x"))


def test_refuses_a_script_that_is_no_distribution(tmp_path: Path) -> None:
    path, digest = given(tmp_path, b"#!/bin/bash\n" + b"x" * 5000 + b"\n__TAR_BELOW__\n" + tar_of(DIST))
    with pytest.raises(PilotError, match="none that makedist"):
        pack_cvmfsexec(path, digest)


def test_archive_is_unpacked_as_a_pilot_does_it(tmp_path: Path) -> None:
    packed = gzipped(pack_cvmfsexec(make_distribution(tmp_path / "dist")))
    (tmp_path / "x.tar.gz").write_bytes(packed)
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xmzf", str(tmp_path / "x.tar.gz")], cwd=tmp_path / "out", check=True, timeout=30)
    assert os.access(tmp_path / "out" / "cvmfsexec", os.X_OK)
    assert (tmp_path / "out" / "dist" / "usr" / "lib64" / "libcvmfs.so").is_symlink()
    assert list((tmp_path / "out" / "dist" / "var" / "lib" / "cvmfs").iterdir()) == []


def test_refuses_another_digest_and_names_the_right_one(tmp_path: Path) -> None:
    path, digest = given(tmp_path, tar_of(DIST))
    for wrong in (None, "0" * 64):
        with pytest.raises(PilotError) as caught:
            pack_cvmfsexec(path, wrong)
        assert digest in str(caught.value)
    folder = make_distribution(tmp_path / "dist")
    with pytest.raises(PilotError) as caught:
        pack_cvmfsexec(folder, "0" * 64)
    assert sha256(pack_cvmfsexec(folder)) in str(caught.value)
    pack_cvmfsexec(folder, sha256(pack_cvmfsexec(folder)))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cvmfsexec": b"#!"}, "no dist folder"),
        ({"dist/a": b"a"}, "neither cvmfsexec nor singcvmfs"),
        ({**DIST, "cvmfsexec": special("cvmfsexec", tarfile.SYMTYPE, "dist/a")}, "no executable file"),
        ({**DIST, "dist/../../x": b""}, "no usable path"),
        ({**DIST, "/dist/x": b""}, "no usable path"),
        ({**DIST, "dist/x\n": b""}, "no usable path"),
        ({**DIST, "dist/l": special("dist/l", tarfile.SYMTYPE, "/etc/passwd")}, "leads outside"),
        ({**DIST, "dist/l": special("dist/l", tarfile.SYMTYPE, "../../x")}, "leads outside"),
        ({**DIST, "dist/l": special("dist/l", tarfile.SYMTYPE, "usr"), "dist/l/x": b""}, "which is no folder"),
        ({**DIST, "dist/h": special("dist/h", tarfile.LNKTYPE, "../../etc/passwd")}, "hard link"),
        ({**DIST, "dist/d": special("dist/d", tarfile.CHRTYPE)}, "neither a file"),
        ({**DIST, "dist/p": special("dist/p", tarfile.FIFOTYPE)}, "neither a file"),
    ],
)
def test_refuses_a_tar_file(tmp_path: Path, files: dict[str, Union[bytes, tarfile.TarInfo]], message: str) -> None:
    path, digest = given(tmp_path, tar_of(files))
    with pytest.raises(PilotError, match=message):
        pack_cvmfsexec(path, digest)


def test_hard_link_becomes_a_file_of_its_own() -> None:
    found = read_tar(tar_of({"a": b"text", "b": special("b", tarfile.LNKTYPE, "a")}), "x")
    assert found["b"].content == b"text"


def test_modes_lose_setuid_and_let_the_pilot_clean_up() -> None:
    folder = special("d", tarfile.DIRTYPE)
    folder.mode = 0o555
    found = read_tar(tar_of({"d": folder, "d/s": b"x"}, file_mode=0o4511), "x")
    assert (found["d"].mode, found["d/s"].mode) == (0o755, 0o511)


@pytest.mark.parametrize(
    "content", [b"", b"text", tar_of(DIST)[:100], tar_of(DIST, "w")[:700], b"\x1f\x8b" + bytes(50)]
)
def test_refuses_what_is_cut_short_or_no_tar_file(tmp_path: Path, content: bytes) -> None:
    path, digest = given(tmp_path, content)
    with pytest.raises(PilotError):
        pack_cvmfsexec(path, digest)


def test_sizes_and_counts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_TREE_BYTES", 10)
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert set(read_folder(tmp_path)) == {"a"}
    (tmp_path / "b").write_bytes(b"x")
    with pytest.raises(PilotError, match="more than 10 bytes"):
        read_folder(tmp_path)
    with pytest.raises(PilotError, match="more than 10 bytes"):
        read_tar(tar_of({"a": b"x" * 10, "b": special("b", tarfile.LNKTYPE, "a")}), "x")
    monkeypatch.setattr(tree, "MAX_TREE_BYTES", 11)
    monkeypatch.setattr(tree, "MAX_MEMBERS", 1)
    with pytest.raises(PilotError, match="more than 1 files"):
        read_folder(tmp_path)


def test_refuses_a_folder_with_a_pipe_or_a_link_that_leads_outside(tmp_path: Path) -> None:
    folder = make_distribution(tmp_path / "dist")
    os.mkfifo(folder / "dist" / "pipe")
    with pytest.raises(PilotError, match="dist/pipe is neither"):
        pack_cvmfsexec(folder)
    (folder / "dist" / "pipe").unlink()
    (folder / "dist" / "out").symlink_to("/etc")
    with pytest.raises(PilotError, match="dist/out leads outside"):
        pack_cvmfsexec(folder)


def test_refuses_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="cannot be read"):
        pack_cvmfsexec(tmp_path / "none", "0" * 64)


def test_damaged_gzip_is_seen() -> None:
    packed = gzipped(b"x" * 1000)
    assert gunzipped(packed, 1000) == b"x" * 1000
    assert gunzipped(packed, 999) is None
    assert gunzipped(packed[:-1], 1000) is None
    assert gunzipped(packed + b"x", 1000) is None
    assert gunzipped(b"x", 1000) is None


def test_ca_folder_is_packed_with_links_as_files(tmp_path: Path) -> None:
    folder = make_ca(tmp_path / "ca")
    (folder / ".backup").write_text("no\n", encoding="utf-8")
    (folder / "a folder").mkdir()
    found = members(pack_ca(folder))
    assert set(found) == {"1d879c6c.0", "1d879c6c.r0", "test-ca.pem"}
    assert all(info.isreg() and info.mode == 0o644 for info in found.values())


def test_refuses_a_ca_folder_with_a_private_key(tmp_path: Path) -> None:
    """The factory's web server would give it to anybody."""
    folder = make_ca(tmp_path / "ca")
    (folder / "host.pem").write_text("-----BEGIN CERT-----\n-----BEGIN RSA PRIVATE KEY-----\n", encoding="utf-8")
    with pytest.raises(PilotError, match="holds a private key"):
        pack_ca(folder)


def test_refuses_a_ca_folder_without_a_hashed_certificate(tmp_path: Path) -> None:
    folder = make_ca(tmp_path / "ca")
    (folder / "1d879c6c.0").unlink()
    with pytest.raises(PilotError, match="no certificate under its hash"):
        pack_ca(folder)


def test_refuses_a_ca_folder_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_ca(tmp_path / "ca")
    size = sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(distribution, "MAX_CA_BYTES", size)
    pack_ca(folder)
    monkeypatch.setattr(distribution, "MAX_CA_BYTES", size - 1)
    with pytest.raises(PilotError, match="larger than"):
        pack_ca(folder)
