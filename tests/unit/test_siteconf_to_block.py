# SPDX-License-Identifier: Apache-2.0
"""A SITECONF that is imported and rendered again means what it meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from glideinwms_bosco.errors import SiteconfError
from glideinwms_bosco.siteconf.check import check_folder
from glideinwms_bosco.siteconf.explain import explain
from glideinwms_bosco.siteconf.from_tree import read_tree
from glideinwms_bosco.siteconf.model import Siteconf
from glideinwms_bosco.siteconf.render import site_files
from glideinwms_bosco.siteconf.to_block import same_meaning, to_block
from tests.unit.siteconf_tree import CONFIG, write_siteconf
from tests.unit.siteconf_world import LFN, REAL, site_with, write_tree
from tests.unit.wmcore_reader import read_as_wmcore


def rendered_again(folder: Path, tmp_path: Path) -> Path:
    """Import a folder, put the block into a site file, write that site's SITECONF; returns it."""
    block = to_block(read_tree(folder))
    assert block.left == ()
    return write_tree(site_files(site_with(tmp_path, block.data)), tmp_path / "SITECONF")


@pytest.mark.parametrize("name", ["local", "T2_FI_HIP"])
def test_real_ones_mean_the_same_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T1_IT_CNAF's is the third: both refer to it, so it is rendered with them."""
    top = rendered_again(REAL / name, tmp_path)
    before, after = read_tree(REAL / name), read_tree(top)
    assert same_meaning(after.siteconf) == same_meaning(before.siteconf)
    assert after.siteconf.siblings["T1_IT_CNAF"] == read_tree(REAL / "T1_IT_CNAF").siteconf.storage
    told = [(attempt.reader, attempt.order, attempt.pfn) for attempt in explain(before, LFN)]
    assert [(attempt.reader, attempt.order, attempt.pfn) for attempt in explain(after, LFN)] == told
    first, again = (read_as_wmcore(tree, monkeypatch, node) for tree, node in ((REAL, name), (top, "local")))
    assert vars(again.config) == {**vars(first.config), "siteConfigFile": again.config.siteConfigFile}


@pytest.mark.parametrize("name", ["local", "T2_FI_HIP"])
def test_real_ones_have_the_same_findings_again(name: str, tmp_path: Path) -> None:
    top = rendered_again(REAL / name, tmp_path)
    assert [found.number for found in check_folder(top)] == [found.number for found in check_folder(REAL / name)]


def test_good_tree_means_the_same_again(tmp_path: Path) -> None:
    local = write_siteconf(tmp_path / "given")
    again = read_tree(rendered_again(local, tmp_path)).siteconf
    assert _comparable(again) == _comparable(read_tree(local).siteconf)


def _comparable(siteconf: Siteconf) -> Siteconf:
    return replace(same_meaning(siteconf), siblings=dict(siteconf.siblings))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<load balance="proxies"/>', '<load balance="proxies"/><maxage secs="5"/>', "<maxage>"),
        ('value="10"', 'value="10 GB"', "cache_min_free"),
        ("http://squid.example.org:3128", "squid.example.org", "frontier.proxies[0]"),
        ('<method volume="Disk" protocol="WebDAV"/>', "", "stage_out"),
    ],
)
def test_what_a_block_cannot_say_is_said(tmp_path: Path, old: str, new: str, words: str) -> None:
    block = to_block(read_tree(write_siteconf(tmp_path, CONFIG, old, new)))
    assert any(words in sentence for sentence in block.left), block.left


def test_folder_without_a_configuration_is_refused() -> None:
    with pytest.raises(SiteconfError, match=r"site-local-config\.xml: is not there"):
        to_block(read_tree(REAL / "T1_IT_CNAF"))
