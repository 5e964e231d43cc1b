# SPDX-License-Identifier: Apache-2.0
"""Sources and requests: an invalid one cannot be built."""

from __future__ import annotations

from typing import Any

import pytest

from glideinwms_bosco.bundle import BundleRequest, HTCondorSource
from glideinwms_bosco.bundle.request import MAX_BOSCO_DIR_CHARS
from glideinwms_bosco.errors import BundleError, SiteError

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "fields",
    [
        {"root": "/"},
        {"tarball": "/data/condor.tar.gz", "sha256": DIGEST},
        {"tarball": "file:///data/condor.tar.gz", "sha256": DIGEST},
        {"tarball": "https://example.org/condor.tar.gz", "sha256": DIGEST},
    ],
)
def test_takes_a_root_or_a_tarball_with_digest(fields: dict[str, Any]) -> None:
    assert HTCondorSource(**fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "exactly one"),
        ({"root": "/", "tarball": "/x", "sha256": DIGEST}, "exactly one"),
        ({"root": "relative"}, "absolute"),
        ({"root": "/a\nb"}, "absolute"),
        ({"root": "/", "sha256": DIGEST}, "belongs to a tarball"),
        ({"tarball": "/x.tar.gz"}, "without sha256"),
        ({"tarball": "/x.tar.gz", "sha256": DIGEST[:-1]}, "64 lower case"),
        ({"tarball": "/x.tar.gz", "sha256": DIGEST.upper()}, "64 lower case"),
        ({"tarball": "x.tar.gz", "sha256": DIGEST}, "absolute"),
        ({"tarball": "http://example.org/x.tar.gz", "sha256": DIGEST}, "scheme"),
        ({"tarball": "ftp://example.org/x.tar.gz", "sha256": DIGEST}, "scheme"),
        ({"tarball": "https://u:p@example.org/x.tar.gz", "sha256": DIGEST}, "user name"),
        ({"tarball": "", "sha256": DIGEST}, "empty"),
    ],
)
def test_refuses_a_source(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SiteError, match=text) as caught:
        HTCondorSource(**fields)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_credentials_in_a_url_are_not_repeated_in_the_error() -> None:
    with pytest.raises(SiteError) as caught:
        HTCondorSource(tarball="https://u:secret@example.org/x", sha256=DIGEST)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("bosco_dir", ["bosco", ".bosco", "a/b.c/d_e", "x" * MAX_BOSCO_DIR_CHARS])
def test_takes_plain_bosco_dir(bosco_dir: str) -> None:
    assert BundleRequest("slurm", bosco_dir).bosco_dir == bosco_dir


@pytest.mark.parametrize(
    "bosco_dir",
    [
        "",
        "/abs",
        "..",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a b",
        "$HOME",
        "~x",
        "-x",
        "a\n",
        "x" * (MAX_BOSCO_DIR_CHARS + 1),
    ],
)
def test_refuses_bosco_dir(bosco_dir: str) -> None:
    with pytest.raises(BundleError, match="bosco_dir"):
        BundleRequest("slurm", bosco_dir)


@pytest.mark.parametrize("bin_path", ["opt/slurm", "/opt/../bin", "/opt slurm", "/", "/opt/", "/a;b", "/$x", "/a\n"])
def test_refuses_bin_path(bin_path: str) -> None:
    with pytest.raises(BundleError, match="bin_path"):
        BundleRequest("slurm", bin_path=bin_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SGE_ROOT", "x"),
        ("a-b", "x"),
        ("", "x"),
        ("a\n", "x"),
        ("sge_rootpath", "$(id)"),
        ("sge_rootpath", "`id`"),
        ("sge_rootpath", "a\nb"),
        ("sge_rootpath", 'a"b'),
        ("sge_rootpath", "a'b"),
        ("sge_rootpath", "a\\"),
        ("sge_rootpath", "x" * 1025),
        ("slurm_binpath", "/usr/bin"),
    ],
)
def test_refuses_blah_setting(key: str, value: str) -> None:
    with pytest.raises(BundleError, match="blah setting"):
        BundleRequest("slurm", blah_settings={key: value})


def test_settings_are_the_same_from_a_mapping_and_from_pairs() -> None:
    pairs = (("sge_rootpath", "/opt/sge"), ("sge_cellname", "prod"))
    assert BundleRequest("sge", blah_settings=dict(pairs)) == BundleRequest("sge", blah_settings=pairs)
    with pytest.raises(BundleError, match="twice"):
        BundleRequest("sge", blah_settings=(*pairs, ("sge_cellname", "x")))


def test_refuses_unknown_batch_system() -> None:
    with pytest.raises(BundleError, match="nqs"):
        BundleRequest("nqs")
