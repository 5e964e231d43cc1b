# SPDX-License-Identifier: Apache-2.0
"""Archive and manifest: what goes out comes back, and one changed thing is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest

from glideinwms_bosco.bundle import (
    Bundle,
    BundleFile,
    BundleRequest,
    HTCondorSource,
    Manifest,
    build_bundle,
    load_bundle,
)
from glideinwms_bosco.bundle.manifest import MAX_MANIFEST_BYTES, tree_digest
from glideinwms_bosco.errors import BundleError
from tests.unit.bundle_fake import make_root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = make_root(tmp_path_factory.mktemp("condor") / "root")
    return build_bundle(HTCondorSource(root=str(root)), BundleRequest("slurm"))


@pytest.fixture(scope="module")
def packed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "bundle.tar.gz"
    bundle.write_archive(path)
    return path.read_bytes()


def load(tmp_path: Path, data: bytes) -> Bundle:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(data)
    return load_bundle(path)


def repacked(packed: bytes, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> bytes:
    """The archive with one change to its list of members."""
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for info in tar:
            stream = tar.extractfile(info) if info.isreg() else None
            members.append((info, stream.read() if stream is not None else b""))
    change(members)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def test_archive_comes_back_as_the_same_bundle(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    assert load(tmp_path, packed) == bundle


def test_unchanged_repack_is_taken(bundle: Bundle, packed: bytes, tmp_path: Path) -> None:
    """The attacks below change one thing; this shows that nothing else of the repacking is refused."""
    assert load(tmp_path, repacked(packed, lambda _: None)) == bundle


def test_archive_holds_no_times_owners_or_directories(packed: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        infos = tar.getmembers()
    assert infos[0].name == "manifest.json"
    assert [info.name for info in infos[1:]] == sorted(info.name for info in infos[1:])
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname) for info in infos} == {(0, 0, 0, "", "")}
    assert all(info.isreg() or info.issym() for info in infos)
    assert packed[4:8] == b"\0\0\0\0"


def test_failed_write_leaves_the_old_archive_and_no_litter(bundle: Bundle, tmp_path: Path) -> None:
    target = tmp_path / "d"
    target.mkdir()
    (target / "in the way").touch()
    with pytest.raises(BundleError, match="cannot write"):
        bundle.write_archive(target)
    assert [place.name for place in tmp_path.iterdir()] == ["d"]
    with pytest.raises(BundleError, match="cannot write"):
        bundle.write_archive(tmp_path / "none" / "x")


def _set(position: int, **values: Any) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        for name, value in values.items():
            setattr(members[position][0], name, value)

    return change


def _content(position: int, data: bytes) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        members[position] = (members[position][0], data)

    return change


def _extra(name: str, kind: bytes = tarfile.REGTYPE) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
    def change(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type = kind
        members.append((info, b""))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _content(1, b"evil"),
        _set(1, mode=0o777),
        _set(1, mode=0o4755),
        _set(1, name="../evil"),
        _set(1, name="/evil"),
        _set(1, mtime=1),
        _set(1, uid=1000),
        _set(1, uname="root"),
        _set(1, type=tarfile.FIFOTYPE),
        _set(1, type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        _extra("zzz"),
        _extra("bin/blahpd"),
        _extra("zzz", tarfile.DIRTYPE),
        _extra("zzz", tarfile.CHRTYPE),
        lambda members: members.reverse(),
        lambda members: members.pop(),
        lambda members: members.insert(1, members.pop()),
        lambda members: members.clear(),
        _content(0, b"{}"),
        _content(0, b"\xff"),
    ],
)
def test_refuses_archive_with_one_change(
    packed: bytes, tmp_path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]
) -> None:
    with pytest.raises(BundleError) as caught:
        load(tmp_path, repacked(packed, change))
    assert str(tmp_path) in caught.value.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "cut short"),
        (b"plain", "not a gzip"),
        (gzip.compress(b"no tar"), "not a tar|first member"),
    ],
)
def test_refuses_what_is_no_archive(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(BundleError, match=text):
        load(tmp_path, data)


def test_refuses_trailing_and_missing_bytes(packed: bytes, tmp_path: Path) -> None:
    for data in (packed + b"x", packed + packed, packed[:-1], packed[: len(packed) // 2]):
        with pytest.raises(BundleError):
            load(tmp_path, data)
    with pytest.raises(BundleError):
        load(tmp_path, gzip.compress(gzip.decompress(packed) + b"\0" * 512, mtime=0))


def test_refuses_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot read"):
        load_bundle(tmp_path / "none")


def test_manifest_json_comes_back(bundle: Bundle) -> None:
    assert Manifest.from_json(bundle.manifest.to_json()) == bundle.manifest


def _json(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(bundle.manifest.to_json())
    change(data)
    return json.dumps(data, sort_keys=True, indent=1) + "\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(more=1),
        lambda data: data.pop("source"),
        lambda data: data.update(format_version=3),
        lambda data: data.update(format_version=True),
        lambda data: data.update(source=7),
        lambda data: data.update(files={}),
        lambda data: data.update(system_libraries=[1]),
        lambda data: data.update(digest="0" * 64),
        lambda data: data["files"][0].update(more=1),
        lambda data: data["files"][0].update(size="1"),
        lambda data: data["files"][0].update(size=-1),
        lambda data: data["files"][0].update(mode=0o4755),
        lambda data: data["files"][0].update(path="../x"),
        lambda data: data["files"][0].update(path="/x"),
        lambda data: data["files"][0].update(path="a b"),
        lambda data: data["files"][0].update(path="manifest.json"),
        lambda data: data["files"][0].update(sha256="x"),
        lambda data: data["files"].append(data["files"][0]),
        lambda data: data["files"].reverse(),
        lambda data: data["links"][0].update(target="/etc/passwd"),
        lambda data: data["links"][0].update(target="../../x"),
        lambda data: data["links"][0].update(target="nowhere"),
        lambda data: data["links"][0].update(path="bin/blahpd/x"),
    ],
)
def test_refuses_manifest_with_one_change(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(_json(bundle, change))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", "NaN", '{"a": 1, "a": 1}', "[" * 100_000, " " * (MAX_MANIFEST_BYTES + 1)]
)
def test_refuses_json_that_is_no_manifest(text: str) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(text)


def test_refuses_manifest_in_other_dress(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="form"):
        Manifest.from_json(bundle.manifest.to_json() + "\n")


def test_bundle_cannot_differ_from_its_manifest(bundle: Bundle) -> None:
    files = dict(bundle.files)
    with pytest.raises(BundleError, match="links"):
        Bundle(bundle.manifest, files, {})
    with pytest.raises(BundleError, match="not in the manifest"):
        Bundle(bundle.manifest, {**files, "more": BundleFile(b"", 0o644, "")}, bundle.links)
    with pytest.raises(BundleError, match="bin/blahpd"):
        Bundle(bundle.manifest, {**files, "bin/blahpd": BundleFile(b"", 0o755, "")}, bundle.links)


def test_digest_covers_path_mode_kind_and_content_but_no_origin() -> None:
    entry = BundleFile(b"x", 0o644, "here").entry("a")
    base = tree_digest([entry], [])
    assert base == tree_digest([BundleFile(b"x", 0o644, "there").entry("a")], [])
    others = [
        tree_digest([BundleFile(b"y", 0o644, "").entry("a")], []),
        tree_digest([BundleFile(b"x", 0o755, "").entry("a")], []),
        tree_digest([BundleFile(b"x", 0o644, "").entry("b")], []),
        tree_digest([], []),
    ]
    assert base not in others
