# SPDX-License-Identifier: Apache-2.0
"""Every file is looked up where readers look: links and `..` resolved by the kernel, from SITECONFIG_PATH on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.siteconf.check import check_folder
from glideinwms_bosco.siteconf.from_tree import read_tree
from tests.unit.siteconf_tree import CONFIG, SIBLING, SITE, STORAGE, siteconf_path, write_siteconf

SUBSITE = '<subsite name="Sub"/>'


def numbers(folder: Path) -> list[int]:
    return [finding.number for finding in check_folder(folder)]


def as_subsite(folder: Path, element: str = SUBSITE, before: str = "    <event-data>") -> Path:
    """The good tree with its configuration in a subsite; returns the subsite's folder."""
    write_siteconf(folder, CONFIG, before, f"{element}{before}")
    subsite = folder / SITE / "Sub"
    subsite.mkdir()
    (folder / SITE / "JobConfig").rename(subsite / "JobConfig")
    return subsite


def test_whole_siteconf_means_its_local(tmp_path: Path) -> None:
    write_siteconf(tmp_path)
    assert read_tree(tmp_path).path == tmp_path / "local"
    assert numbers(tmp_path) == []


def test_subsite_uses_the_storage_of_its_site(tmp_path: Path) -> None:
    assert numbers(as_subsite(tmp_path)) == []


def test_local_that_names_a_subsite(tmp_path: Path) -> None:
    as_subsite(tmp_path)
    (tmp_path / "local").unlink()
    (tmp_path / "local").symlink_to(f"{SITE}/Sub")
    assert numbers(tmp_path) == []


def test_storage_inside_the_subsite_is_not_read(tmp_path: Path) -> None:
    subsite = as_subsite(tmp_path)
    siteconf_path(tmp_path, STORAGE).rename(subsite / "storage.json")
    assert numbers(subsite) == [4]


@pytest.mark.parametrize(
    ("element", "number"),
    [
        ('<subsite name="Sub"><a/></subsite>', 7),
        ('<subsite name="Sub"><!-- x --></subsite>', 7),
        ('<subsite name="Sub">x</subsite>', 7),
    ],
)
def test_subsite_is_not_empty(tmp_path: Path, element: str, number: int) -> None:
    assert numbers(as_subsite(tmp_path, element)) == [number]


def test_blanks_in_a_subsite_are_nothing(tmp_path: Path) -> None:
    assert numbers(as_subsite(tmp_path, '<subsite name="Sub">\n </subsite>')) == []


def test_subsite_behind_stage_out(tmp_path: Path) -> None:
    assert numbers(as_subsite(tmp_path, before="    <calib-data>")) == [8]


def test_configuration_is_missing(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, CONFIG).unlink()
    assert numbers(local) == [2]


def test_own_storage_is_missing(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, STORAGE).unlink()
    assert numbers(local) == [4]


@pytest.mark.parametrize("which", [CONFIG, STORAGE, SIBLING])
@pytest.mark.parametrize("circle", [True, False])
def test_link_in_a_circle_or_to_nothing(tmp_path: Path, which: str, circle: bool) -> None:
    local = write_siteconf(tmp_path)
    path = siteconf_path(tmp_path, which)
    path.unlink()
    path.symlink_to(path.name if circle else "nothing")
    assert numbers(local) == [3]


def test_folders_that_are_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "local").symlink_to("other")
    (tmp_path / "other").symlink_to("local")
    assert numbers(tmp_path / "local") == [3]


def test_sibling_beside_the_link_only(tmp_path: Path) -> None:
    """`local` leads out of the tree: readers look beside its target (cms-sw/cmssw #42801)."""
    inside, outside = tmp_path / "SITECONF", tmp_path / "elsewhere"
    inside.mkdir()
    write_siteconf(outside)
    (outside / "T1_XX_Fed").rename(inside / "T1_XX_Fed")
    (inside / "local").symlink_to(outside / SITE)
    assert numbers(inside / "local") == [21]
    (outside / "T1_XX_Fed").symlink_to(inside / "T1_XX_Fed")
    assert numbers(inside / "local") == []


def test_sibling_that_is_a_link_to_another_tree(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path / "SITECONF")
    moved = (tmp_path / "SITECONF" / "T1_XX_Fed").rename(tmp_path / "elsewhere")
    (tmp_path / "SITECONF" / "T1_XX_Fed").symlink_to(moved)
    assert numbers(local) == []


def test_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path)
    siteconf_path(tmp_path, STORAGE).unlink()
    os.mkfifo(siteconf_path(tmp_path, STORAGE))
    assert numbers(local) == [1]


def test_what_is_no_siteconf_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        check_folder(tmp_path)
    with pytest.raises(UsageError, match="no folder"):
        check_folder(tmp_path / "missing")
    write_siteconf(tmp_path)
    (tmp_path / "local").unlink()
    with pytest.raises(UsageError, match=SITE):
        check_folder(tmp_path)
