# SPDX-License-Identifier: Apache-2.0
"""A SITECONF folder of the operator that pilots bring along as it is."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from glideinwms_bosco.errors import SiteconfFileError
from glideinwms_bosco.siteconf.model import Link
from glideinwms_bosco.siteconf.render import archive_files, site_files
from glideinwms_bosco.siteconf.shipped import MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, cut_config, read_tree
from tests.unit.cmssw_rules import read_as_cmssw
from tests.unit.siteconf_world import LFN, REAL, site_with, write_tree

CONFIG = "JobConfig/site-local-config.xml"
SITE = "T2_FI_HIP"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A SITECONF with the real site and its sibling."""
    folder = tmp_path / "tree"
    for name in (SITE, "T1_IT_CNAF"):
        shutil.copytree(REAL / name, folder / name)
    return folder


def archive_of(folder: Path, tree: Path, **more: Any) -> dict[str, Any]:
    return dict(archive_files(site_with(folder, {"site": SITE, "tree": str(tree), **more})))


def refusal_of(tree: Path) -> str:
    start = time.monotonic()
    with pytest.raises(SiteconfFileError) as caught:
        read_tree(tree, SITE)
    assert time.monotonic() - start < 1
    return str(caught.value)


def test_real_tree_is_shipped_and_read(tmp_path: Path, tree: Path) -> None:
    site = site_with(tmp_path, {"site": SITE, "tree": str(tree)})
    files = archive_files(site)
    assert list(files) == [
        "SITECONF/T1_IT_CNAF/storage.json",
        f"SITECONF/{SITE}/{CONFIG}.head",
        f"SITECONF/{SITE}/{CONFIG}.tail",
        f"SITECONF/{SITE}/PhEDEx/storage.xml",
        f"SITECONF/{SITE}/storage.json",
        "SITECONF/local",
    ]
    assert files["SITECONF/local"] == Link(SITE)
    whole = write_tree(site_files(site), tmp_path / "SITECONF")
    assert (whole / SITE / CONFIG).read_bytes() == (REAL / SITE / CONFIG).read_bytes()
    assert read_as_cmssw(whole / "local").pfns(LFN)[1] == "root://hip-cms-se.csc.fi:1094//store/mc/Run3/file.root"


def test_found_proxies_come_before_those_of_the_shipped_file(tmp_path: Path, tree: Path) -> None:
    files = archive_of(tmp_path, tree)
    found = b'<proxy url="http://found.example.org:3128"/>'
    joined = files[f"SITECONF/{SITE}/{CONFIG}.head"] + found + files[f"SITECONF/{SITE}/{CONFIG}.tail"]
    (tree / SITE / CONFIG).write_bytes(joined)
    assert read_as_cmssw(tree / SITE).frontier_values("proxyurl") == [
        "http://found.example.org:3128",
        "http://frontier-vm.hip.helsinki.fi:3128",
    ]


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("<a><frontier-connect><b/></frontier-connect></a>", "<a><frontier-connect>\n"),
        ("<a><!-- <frontier-connect> --><frontier-connect\n ></frontier-connect></a>", None),
        ("<a><frontier-connect x='>' y=\"/>\"></frontier-connect></a>", "<a><frontier-connect x='>' y=\"/>\">\n"),
        ("\ufeff<é><frontier-connect></frontier-connect></é>", "\ufeff<é><frontier-connect>\n"),
    ],
)
def test_cut_is_behind_the_tag(text: str, head: str) -> None:
    pieces = cut_config(text.encode(), "x")
    assert pieces is not None
    if head is not None:
        assert pieces[0].decode() == head
    assert b"".join(pieces).replace(b"\n", b"") == text.encode().replace(b"\n", b"")


@pytest.mark.parametrize(
    "inner", ["", "<frontier-connect/>", "<frontier-connect></frontier-connect>" * 2, "<!-- <frontier-connect> -->"]
)
def test_file_without_one_open_frontier_connection_is_shipped_whole(tmp_path: Path, tree: Path, inner: str) -> None:
    text = f"<site-local-config><site name='{SITE}'>{inner}</site></site-local-config>"
    (tree / SITE / CONFIG).write_text(text, encoding="utf-8")
    assert archive_of(tmp_path, tree)[f"SITECONF/{SITE}/{CONFIG}"] == text.encode()


def test_links_inside_stay_and_links_outside_are_replaced(tmp_path: Path, tree: Path) -> None:
    outside = tmp_path / "T1_US_FNAL"
    shutil.copytree(REAL / "T1_IT_CNAF", outside / "real")
    (outside / "storage.json").symlink_to("real/storage.json")
    (tree / "T1_US_FNAL").symlink_to(outside)
    (tree / "T0_CH_CERN").symlink_to("T1_IT_CNAF")
    (tree / SITE / "again.json").symlink_to(tree / "T1_IT_CNAF" / "storage.json")
    (tree / "local").symlink_to("$(CMS_LOCAL_SITE)")
    (tree / ".git").mkdir()
    files = read_tree(tree, SITE)
    assert files["T1_US_FNAL/storage.json"] == (REAL / "T1_IT_CNAF" / "storage.json").read_bytes()
    assert files["T0_CH_CERN"] == Link("T1_IT_CNAF")
    assert files[f"{SITE}/again.json"] == Link("../T1_IT_CNAF/storage.json")
    assert files["local"] == Link(SITE)
    assert not any(path.startswith(".git") for path in files)


def test_configuration_of_a_subsite_is_cut_through_links(tmp_path: Path, tree: Path) -> None:
    (tree / SITE / "GPU").mkdir()
    (tree / SITE / "GPU" / "JobConfig").symlink_to("../JobConfig")
    files = archive_of(tmp_path, tree, subsite="GPU")
    assert files["SITECONF/local"] == Link(f"{SITE}/GPU")
    assert files[f"SITECONF/{SITE}/GPU/JobConfig"] == Link("../JobConfig")
    assert f"SITECONF/{SITE}/{CONFIG}.head" in files
    (tree / SITE / "GPU" / "JobConfig").unlink()
    (tree / SITE / "GPU" / "JobConfig").mkdir()
    (tree / SITE / "GPU" / CONFIG).symlink_to("../../" + CONFIG)
    files = archive_of(tmp_path, tree, subsite="GPU")
    assert f"SITECONF/{SITE}/GPU/{CONFIG}.head" in files
    assert f"SITECONF/{SITE}/{CONFIG}" in files


def test_circles_and_dangling_links_are_refused(tree: Path) -> None:
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    assert "tree/a: error: leads to nothing" in refusal_of(tree)
    (tree / "a").unlink()
    assert "tree/b: error: leads to nothing" in refusal_of(tree)


def test_circle_of_folders_outside_is_refused(tmp_path: Path, tree: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "a").mkdir(parents=True)
    (outside / "a" / "up").symlink_to("..")
    (tree / "T1_US_FNAL").symlink_to(outside)
    assert f"is more than {MAX_DEPTH} folders deep" in refusal_of(tree)


def test_many_circles_of_folders_outside_are_refused_at_once(tmp_path: Path, tree: Path) -> None:
    """Twenty links to their own folder have 20^8 paths that are not too deep."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for i in range(20):
        (outside / f"l{i}").symlink_to(".")
    (tree / "T1_US_FNAL").symlink_to(outside)
    assert "is a link a circle?" in refusal_of(tree)


def test_link_to_a_folder_above_is_refused(tree: Path) -> None:
    (tree / "T1_US_FNAL").symlink_to("..")
    assert f"is more than {MAX_DEPTH} folders deep" in refusal_of(tree)


def test_number_and_size_are_limited(tree: Path) -> None:
    more = tree / "more"
    more.mkdir()
    for i in range(MAX_ENTRIES):
        (more / f"f{i}").touch()
    assert f"has more than {MAX_ENTRIES} files and folders" in refusal_of(tree)
    shutil.rmtree(more)
    more.mkdir()
    for i in range(MAX_BYTES // 250_000 + 1):
        (more / f"f{i}").write_bytes(b"x" * 250_000)
    assert "bytes" in refusal_of(tree)


def test_strange_names_and_missing_configuration_are_refused(tmp_path: Path, tree: Path) -> None:
    (tree / "a b").touch()
    assert "has a name that is no plain word" in refusal_of(tree)
    (tree / "a b").unlink()
    (tree / SITE / CONFIG).unlink()
    assert f"{SITE}/{CONFIG}: error: is not there" in refusal_of(tree)
    site = site_with(tmp_path, {"site": SITE, "tree": str(tree)})
    with pytest.raises(SiteconfFileError) as caught:
        archive_files(site)
    (problem,) = caught.value.problems
    assert (problem.file, problem.field) == (site.file, "runtime.siteconf.tree")
    assert problem.line > 1
