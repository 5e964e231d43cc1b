# SPDX-License-Identifier: Apache-2.0
"""Release tarballs: checked as a whole before use; each attack changes one thing of a good one."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Callable

import pytest

from glideinwms_bosco.bundle import BundleRequest, HTCondorSource, build_bundle, download, tarball
from glideinwms_bosco.errors import SourceError
from tests.unit.bundle_fake import file_member, link_member, make_root, release_members, tar_gz

Members = list[tuple[tarfile.TarInfo, bytes]]
REQUEST = BundleRequest("slurm")


@pytest.fixture()
def members(tmp_path: Path) -> Members:
    return release_members(make_root(tmp_path / "root"))


def build(tmp_path: Path, members: Members) -> str:
    path = tmp_path / "condor.tar.gz"
    sha256 = tar_gz(path, members)
    return build_bundle(HTCondorSource(tarball=str(path), sha256=sha256), REQUEST).digest


def test_tarball_without_a_top_directory_is_taken(tmp_path: Path, members: Members) -> None:
    with_top = build(tmp_path, members)
    for info, _ in members:
        info.name = "./" + info.name.split("/", 1)[1]
    assert build(tmp_path, members) == with_top


def test_hard_link_is_followed(tmp_path: Path, members: Members) -> None:
    top = members[0][0].name.split("/")[0]
    names = [info.name for info, _ in members]
    place = names.index(f"{top}/usr/libexec/blahp/slurm_ping.sh")
    expected = build(tmp_path, members)
    members.append((tarfile.TarInfo(f"{top}/moved"), members[place][1]))
    members[place] = link_member(names[place], f"{top}/moved", tarfile.LNKTYPE)
    assert build(tmp_path, members) == expected


def test_wrong_digest_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"not even gzip")
    with pytest.raises(SourceError, match="sha256 is") as caught:
        build_bundle(HTCondorSource(tarball=str(path), sha256="0" * 64), REQUEST)
    assert "\n" not in str(caught.value)


def _special(kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo("condor/dev")
    info.type = kind
    return info, b""


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (lambda: file_member("/etc/evil"), "outside"),
        (lambda: file_member("condor/../../evil"), "outside"),
        (lambda: file_member(".."), "outside"),
        (lambda: file_member("condor/new\nline"), "name"),
        (lambda: file_member("c/" + "x" * tarball.MAX_NAME_CHARS), "name"),
        (lambda: link_member("condor-23.9.6-1-x86_64_Debian13-stripped/l", "../../evil"), "leaves"),
        (lambda: link_member("condor/l", "/etc/passwd", tarfile.LNKTYPE), "leaves"),
        (lambda: link_member("condor/l", "../x", tarfile.LNKTYPE), "leaves"),
        (lambda: _special(tarfile.CHRTYPE), "device"),
        (lambda: _special(tarfile.BLKTYPE), "device"),
        (lambda: _special(tarfile.FIFOTYPE), "device"),
    ],
)
def test_refuses_hostile_member(
    tmp_path: Path, members: Members, extra: Callable[[], tuple[tarfile.TarInfo, bytes]], text: str
) -> None:
    with pytest.raises(SourceError, match=text) as caught:
        build(tmp_path, [*members, extra()])
    assert "\n" not in str(caught.value)


def test_refuses_absolute_link_on_the_way_to_a_file(tmp_path: Path, members: Members) -> None:
    """An absolute link that nothing is looked for through is harmless: nothing is extracted."""
    top = members[0][0].name.split("/")[0]
    build(tmp_path, [*members, link_member(f"{top}/usr/unused", "/etc/passwd")])
    kept = [item for item in members if not item[0].name.endswith("/blah.config")]
    with pytest.raises(SourceError, match="leaves"):
        build(tmp_path, [*kept, link_member(f"{top}/etc/blah.config", "/etc/passwd")])


def test_limits_hold_at_the_limit_and_refuse_one_more(
    tmp_path: Path, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarball, "MAX_MEMBERS", len(members))
    build(tmp_path, members)
    monkeypatch.setattr(tarball, "MAX_MEMBERS", len(members) - 1)
    with pytest.raises(SourceError, match="members"):
        build(tmp_path, members)
    monkeypatch.undo()
    size = (tmp_path / "condor.tar.gz").stat().st_size
    unpacked = len(gzip.decompress((tmp_path / "condor.tar.gz").read_bytes()))
    for name, limit in (("MAX_TARBALL_BYTES", size), ("MAX_UNPACKED_BYTES", unpacked)):
        sha256 = hashlib.sha256((tmp_path / "condor.tar.gz").read_bytes()).hexdigest()
        source = HTCondorSource(tarball=str(tmp_path / "condor.tar.gz"), sha256=sha256)
        monkeypatch.setattr(tarball, name, limit)
        build_bundle(source, REQUEST)
        monkeypatch.setattr(tarball, name, limit - 1)
        with pytest.raises(SourceError, match=f"more than {limit - 1}|larger than {limit - 1}"):
            build_bundle(source, REQUEST)
        monkeypatch.undo()


def test_refuses_a_member_larger_than_a_file_may_be(
    tmp_path: Path, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarball, "MAX_FILE_BYTES", 10)
    with pytest.raises(SourceError, match="larger than 10 bytes"):
        build(tmp_path, members)


@pytest.mark.parametrize("data", [b"plain", gzip.compress(b"x" * 600), gzip.compress(b"y" * 5000)[:-9], b""])
def test_refuses_what_is_no_tarball(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(data)
    source = HTCondorSource(tarball=str(path), sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(SourceError):
        build_bundle(source, REQUEST)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("/none/x.tar.gz", "cannot read"),
        ("file:///none/x.tar.gz", "cannot read"),
        ("file://elsewhere/x", "another host"),
        ("http://localhost/x", "scheme"),
        ("ftp://localhost/x", "scheme"),
        ("https://127.0.0.1:1/x", "cannot fetch"),
    ],
)
def test_unreachable_tarball_is_one_clear_line(place: str, text: str) -> None:
    with pytest.raises(SourceError, match=text) as caught:
        download.open_tarball(place)
    assert caught.value.hint


def test_redirect_must_stay_in_https() -> None:
    handler = download.HttpsOnlyRedirect()
    first = urllib.request.Request("https://example.org/a")
    followed = handler.redirect_request(first, io.BytesIO(), 302, "", Message(), "https://example.org/b")  # type: ignore[arg-type]  # headers are not read
    assert followed is not None
    for target in ("http://example.org/b", "file:///etc/passwd", "ftp://example.org/b"):
        with pytest.raises(SourceError, match="away from https"):
            handler.redirect_request(first, io.BytesIO(), 302, "", Message(), target)  # type: ignore[arg-type]  # headers are not read


def test_download_ends_at_its_size_limit_and_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_TARBALL_BYTES", 10)
    assert download.save(io.BytesIO(b"x" * 10), "u").read() == b"x" * 10
    with pytest.raises(SourceError, match="larger"):
        download.save(io.BytesIO(b"x" * 11), "u")
    monkeypatch.setattr(download, "DEADLINE_S", -1.0)
    with pytest.raises(SourceError, match="not complete"):
        download.save(io.BytesIO(b"x"), "u")
