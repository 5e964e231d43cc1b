# SPDX-License-Identifier: Apache-2.0
"""What a site's entries bring along: which files, in which order, and how they are kept on the factory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from glideinwms_bosco.errors import PilotError
from glideinwms_bosco.pilot.plan import (
    CHECK_PERIOD_S,
    NOTHING,
    PROXY_CHECK_PERIOD_S,
    PilotFile,
    PilotPlan,
    pilot_plan,
)
from glideinwms_bosco.pilot.store import KEPT_UNNAMED_S, drop_unnamed, store
from tests.unit.pilot_world import ALL, make_ca, make_distribution, make_scripts, members
from tests.unit.site_text import changed_site
from tests.unit.siteconf_world import SMALLEST

NOW_S = 2_000_000_000.0
SCRIPT = PilotFile("cvmfs_setup", b"#!/bin/bash\n", "executable")
ARCHIVE = PilotFile("gwms_bosco_ca", b"a tar stream", "untar", attribute="A")


def plan_of(folder: Path, runtime: str) -> PilotPlan:
    """The plan of a site with this runtime block; DIST and CA stand for folders that are made."""
    text = runtime.replace("DIST", str(make_distribution(folder / "dist")))
    text = text.replace("ca_dir: CA", f"ca_dir: {make_ca(folder / 'ca')}")
    plan, problems = pilot_plan(
        changed_site(folder, "entries:\n", text + "entries:\n"), make_scripts(folder / "scripts")
    )
    assert problems == ()
    return plan


def test_site_without_runtime_block_brings_nothing(tmp_path: Path) -> None:
    assert pilot_plan(changed_site(tmp_path), tmp_path / "no scripts") == (NOTHING, ())


def test_files_come_in_the_order_pilots_need_them(tmp_path: Path) -> None:
    """Archives before who uses them, /cvmfs before the credentials in it, and these before the container."""
    plan = plan_of(tmp_path, ALL)
    assert [(file.node_name, file.kind, file.period_s, file.attribute) for file in plan.files] == [
        ("gwms_bosco_cvmfsexec.tar.gz", "untar", 0, "GWMS_BOSCO_CVMFSEXEC_DIR"),
        ("gwms_bosco_ca.tar.gz", "untar", 0, "GWMS_BOSCO_CA_DIR"),
        ("cvmfs_setup", "executable", 0, None),
        ("cvmfs_check", "executable", CHECK_PERIOD_S, None),
        ("credentials_setup", "executable", 0, None),
        ("container_setup", "executable", 0, None),
        ("payload_setup", "executable", 0, None),
        ("payload_wrapper.sh", "wrapper", 0, None),
    ]
    assert plan.files[2].content == b"gwms_bosco_config() { :; }\n# cvmfs_setup\n"
    assert "1d879c6c.0" in members(plan.files[1].content)


PROXIES = '  web_proxies: {proxies: [{url: "http://squid:3128", capacity: {clients: 10}}]}\n'
SITECONF = f"  siteconf: {json.dumps(dict(SMALLEST))}\n"


def test_proxies_are_found_before_cvmfs_and_written_into_the_siteconf_after(tmp_path: Path) -> None:
    """The SITECONF is there before the container binds it; what looks after proxies later comes last."""
    fixed = next(line for line in ALL.splitlines(keepends=True) if line.startswith("    proxy:"))
    plan = plan_of(tmp_path, ALL.replace(fixed, "") + PROXIES + SITECONF)
    assert [(file.node_name, file.kind, file.period_s, file.attribute) for file in plan.files] == [
        ("gwms_bosco_cvmfsexec.tar.gz", "untar", 0, "GWMS_BOSCO_CVMFSEXEC_DIR"),
        ("gwms_bosco_ca.tar.gz", "untar", 0, "GWMS_BOSCO_CA_DIR"),
        ("gwms_bosco_siteconf.tar.gz", "untar", 0, "GWMS_BOSCO_SITECONF_DIR"),
        ("proxy_setup", "executable", 0, None),
        ("cvmfs_setup", "executable", 0, None),
        ("cvmfs_check", "executable", CHECK_PERIOD_S, None),
        ("siteconf_setup", "executable", 0, None),
        ("credentials_setup", "executable", 0, None),
        ("container_setup", "executable", 0, None),
        ("payload_setup", "executable", 0, None),
        ("payload_wrapper.sh", "wrapper", 0, None),
        ("proxy_check", "executable", PROXY_CHECK_PERIOD_S, None),
    ]
    attrs = {attr.name: attr.value for attr in plan.attrs}
    assert attrs["GWMS_BOSCO_SITECONF_SITE"] == "T3_US_HPC"
    assert attrs["GWMS_BOSCO_SITECONF_PREFER_LOCAL"] == "False"
    assert attrs["GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER"].startswith("http://cmsfrontier")


def test_siteconf_archive_is_the_rendered_tree(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "runtime:\n" + SITECONF)
    assert [file.name for file in plan.files] == ["gwms_bosco_siteconf", "siteconf_setup", "payload_wrapper.sh"]
    found = members(plan.files[0].content)
    assert found["SITECONF/local"].linkname == "T3_US_HPC"
    pieces = {f"SITECONF/T3_US_HPC/JobConfig/site-local-config.xml.{end}" for end in ("head", "tail")}
    assert pieces | {"SITECONF/T2_FI_HIP/storage.json"} <= set(found)
    assert {info.mode for info in found.values() if info.isfile()} == {0o644}
    again = plan_of(tmp_path / "again", "runtime:\n" + SITECONF)
    assert again.files[0].stored_name == plan.files[0].stored_name


def test_siteconf_that_cannot_be_rendered_is_a_problem_with_its_place(tmp_path: Path) -> None:
    block = {**SMALLEST, "siblings": {"T2_FI_HIP": str(tmp_path / "none")}}
    site = changed_site(tmp_path, "entries:\n", f"runtime:\n  siteconf: {json.dumps(block)}\nentries:\n")
    plan, problems = pilot_plan(site, make_scripts(tmp_path / "scripts"))
    assert problems
    assert all(problem.file for problem in problems)
    assert "gwms_bosco_siteconf" not in [file.name for file in plan.files]


def test_window_reaches_the_attributes(tmp_path: Path) -> None:
    site = changed_site(tmp_path, "entries:\n", f"runtime:\n{PROXIES}entries:\n")
    plan, _ = pilot_plan(site, make_scripts(tmp_path / "scripts"), 42)
    assert {attr.name: attr.value for attr in plan.attrs}["GWMS_BOSCO_WEB_PROXY_SPREAD_S"] == "42"
    assert [file.name for file in plan.files] == ["proxy_setup", "proxy_check"]


@pytest.mark.parametrize(
    ("block", "names"),
    [
        (
            "{cvmfs: {repositories: [a.b], rungs: [native]}}",
            ["cvmfs_setup", "cvmfs_check", "payload_setup", "payload_wrapper.sh"],
        ),
        (
            "{cvmfs: {repositories: [a.b], rungs: [native]}, payload: {cvmfs: never}}",
            ["cvmfs_setup", "cvmfs_check", "payload_setup"],
        ),
        (
            "{cvmfs: {repositories: [a.b], rungs: [native], cvmfsexec: {path: DIST}}, payload: {cvmfs: never}}",
            ["cvmfs_setup", "cvmfs_check", "payload_setup"],
        ),
        ("{container: {nested: false}}", []),
        ("{credentials: {ca: [node], ca_dir: CA}}", ["credentials_setup"]),
        (
            f"{{container: {{image: /a.sif, sha256: {'0' * 64}}}}}",
            ["container_setup", "payload_setup", "payload_wrapper.sh"],
        ),
        (
            "{cvmfs: {repositories: [a.b], rungs: [container], cvmfsexec: {path: DIST}}, "
            f"container: {{image: /a.sif, sha256: {'0' * 64}, mode: never}}}}",
            [
                *("gwms_bosco_cvmfsexec", "cvmfs_setup", "cvmfs_check", "container_setup"),
                *("payload_setup", "payload_wrapper.sh"),
            ],
        ),
    ],
)
def test_only_what_is_asked_for_is_brought(tmp_path: Path, block: str, names: list[str]) -> None:
    assert [file.name for file in plan_of(tmp_path, f"runtime: {block}\n").files] == names


def test_problems_name_the_field_that_they_follow_from(tmp_path: Path) -> None:
    text = ALL.replace("DIST", str(tmp_path / "none")).replace("ca_dir: CA", f"ca_dir: {tmp_path / 'none'}")
    site = changed_site(tmp_path, "entries:\n", text + "entries:\n")
    _, problems = pilot_plan(site, tmp_path / "none")
    assert [problem.field for problem in problems] == [
        *("runtime.cvmfs.cvmfsexec", "runtime.credentials.ca_dir", "runtime")
    ]
    lines = Path(site.file).read_text(encoding="utf-8").splitlines()
    assert "cvmfsexec:" in lines[problems[0].line - 1]
    assert "ca_dir:" in lines[problems[1].line - 1]


def test_name_on_the_factory_follows_from_the_content() -> None:
    same = PilotFile("cvmfs_setup", b"#!/bin/bash\n", "executable")
    other = PilotFile("cvmfs_setup", b"#!/bin/sh\n", "executable")
    assert SCRIPT.stored_name == same.stored_name != other.stored_name


def test_files_are_stored_once_and_readable_by_the_factory(tmp_path: Path) -> None:
    folder = tmp_path / "pilot"
    mask = os.umask(0o077)
    try:
        written = store([SCRIPT, ARCHIVE], folder)
    finally:
        os.umask(mask)
    assert [path.name for path in written] == [SCRIPT.stored_name, ARCHIVE.stored_name]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o644}
    inodes = [path.stat().st_ino for path in written]
    assert store([SCRIPT, ARCHIVE], folder) == ()
    assert [path.stat().st_ino for path in written] == inodes
    assert {path.name for path in folder.iterdir()} == {SCRIPT.stored_name, ARCHIVE.stored_name}


@pytest.mark.parametrize("file", [SCRIPT, ARCHIVE], ids=["script", "archive"])
def test_damaged_file_is_written_again(tmp_path: Path, file: PilotFile) -> None:
    (path,) = store([file], tmp_path)
    intact = path.read_bytes()
    path.write_bytes(intact[:-1])
    assert store([file], tmp_path) == (path,)
    assert path.read_bytes() == intact


def test_archive_packed_by_another_zlib_stays(tmp_path: Path) -> None:
    import gzip

    (path,) = store([ARCHIVE], tmp_path)
    path.write_bytes(gzip.compress(ARCHIVE.content, 1))
    assert store([ARCHIVE], tmp_path) == ()


def test_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(SCRIPT.content)
    path = tmp_path / SCRIPT.stored_name
    path.symlink_to(target)
    store([SCRIPT], tmp_path)
    assert path.read_bytes() == SCRIPT.content
    assert not path.is_symlink()


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PilotError, match="cannot be written"):
        store([SCRIPT], tmp_path / "file" / "pilot")


def test_file_is_kept_while_named_and_a_day_longer(tmp_path: Path) -> None:
    (path,) = store([SCRIPT], tmp_path)
    xml = [f'<file absfname="{path}"/>'.encode()]
    assert drop_unnamed(tmp_path, xml, NOW_S) == ()
    assert drop_unnamed(tmp_path, [], NOW_S + KEPT_UNNAMED_S) == ()
    assert drop_unnamed(tmp_path, [], NOW_S + KEPT_UNNAMED_S + 1) == (path,)
    assert not path.exists()


def test_clean_up_touches_only_files_of_this_kind(tmp_path: Path) -> None:
    for name in ("operator.sh", ".cvmfs_setup-x.tmp", "cvmfs_setup-0"):
        (tmp_path / name).write_text("", encoding="utf-8")
        os.utime(tmp_path / name, (1, 1))
    assert drop_unnamed(tmp_path, [], NOW_S) == ()
    assert drop_unnamed(tmp_path / "none", [], NOW_S) == ()
