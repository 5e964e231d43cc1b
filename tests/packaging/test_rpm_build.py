# SPDX-License-Identifier: Apache-2.0
"""Packages build anywhere, and say of themselves what is true."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.packages import CHECKOUT, NOBODY, PARTS, build, package, query, run, version_of

REQUIRES = CHECKOUT / "packaging" / "requires.tsv"
WAIVERS = CHECKOUT / "packaging" / "rpmlint.toml"
# Made by rpm itself of what is in a package.
_BY_RPM = re.compile(r"rpmlib\(|config\(|python\(abi\)|python[0-9.]+dist\(|/(usr/)?bin/|glideinwms-bosco-")


def contents(folder: Path) -> dict[str, list[str]]:
    """What a package installs and runs; rpm also writes the path of the build into source packages."""
    what = ["%{PAYLOADDIGEST}", "[%{FILEUSERNAME} %{FILEGROUPNAME} %{FILEMODES:perms} %{FILENAMES}\\n]"]
    more = ("--scripts", "--requires", "--provides")
    return {path.name: query(path, *more, "--queryformat", "\\n".join(what)) for path in folder.glob("*.rpm")}


def test_an_ordinary_user_without_network_builds_the_same(checkout: Path, rpms: Path, place: Path) -> None:
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    again = build(checkout, place / "again", [*alone, *user])
    assert contents(again) == contents(rpms)
    assert len(contents(rpms)) == len(PARTS) + 1  # the source package


def test_the_source_package_builds_alone(rpms: Path, tmp_path: Path) -> None:
    (source,) = rpms.glob("*.src.rpm")
    run(["rpmbuild", "--rebuild", "--quiet", "--nodeps", f"--load={CHECKOUT}/packaging/macros.el", "--define",
         f"_topdir {tmp_path}", "--define", f"_dbpath {tmp_path}/db", source])  # fmt: skip
    built = {path.name for path in tmp_path.glob("RPMS/noarch/*.rpm")}
    assert built == {package(rpms, part).name for part in PARTS}


def test_the_version_is_that_of_setup_cfg(checkout: Path, rpms: Path) -> None:
    for path in rpms.glob("*.rpm"):
        assert query(path, "--queryformat", "%{VERSION}") == [version_of(checkout)]
    spec = (CHECKOUT / "packaging" / "glideinwms-bosco.spec").read_text()
    assert version_of(checkout) not in spec


def test_what_el9_lacks_is_not_brought_along_for_the_build() -> None:
    """Else no build here would show that the spec does without."""
    packaging = CHECKOUT / "packaging"
    lacking = re.findall(r"^%\{!\?(\w+):", (packaging / "glideinwms-bosco.spec").read_text(), re.MULTILINE)
    assert "bash_completions_dir" in lacking
    brought = re.findall(r"^%(\w+)", (packaging / "macros.el").read_text(), re.MULTILINE)
    assert "python3_sitelib" in brought
    assert not set(lacking) & set(brought)


def lint(rpms: Path, waivers: Path) -> list[str]:
    argv = ["rpmlint", "--config", str(waivers), *sorted(map(str, rpms.iterdir()))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"})
    assert "packages and 1 specfiles checked" in done.stdout, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if re.search(r": [EWI]: ", line)]


def test_rpmlint_finds_what_is_explained_and_nothing_else(rpms: Path, tmp_path: Path) -> None:
    assert lint(rpms, WAIVERS) == []
    before, _, filters = WAIVERS.read_text().partition("\nFilters = ")
    bare = tmp_path / "bare.toml"
    bare.write_text(before)
    found = "\n".join(lint(rpms, bare))
    # A list of TOML strings in single quotes; Python's own reader of TOML came with 3.11.
    waived = [
        ast.literal_eval(f"r{line.strip().rstrip(',')}") for line in filters.splitlines() if line.strip()[:1] == "'"
    ]
    assert waived
    assert [pattern for pattern in waived if not re.search(pattern, found, re.MULTILINE)] == []


def required() -> dict[str, set[str]]:
    rows = [line.split("\t") for line in REQUIRES.read_text().splitlines() if not line.startswith("#")]
    assert {len(row) for row in rows} == {4}
    assert all(all(cell.strip() for cell in row) for row in rows)
    return {part: {row[1] for row in rows if row[0] == part} for part in PARTS}


@pytest.mark.parametrize("part", PARTS)
def test_each_requirement_has_a_row_in_the_table(rpms: Path, part: str) -> None:
    names = {line.split()[0] for line in query(package(rpms, part), "--requires")}
    assert {name for name in names if not _BY_RPM.match(name)} == required()[part]


def test_python_packages_have_the_floors_of_setup_cfg(rpms: Path) -> None:
    """Where EL spells a name otherwise it is lower case; the generated requirement comes from setup.cfg."""
    lines = query(package(rpms, "libs"), "--requires")
    generated = {m[1]: m[2] for line in lines if (m := re.match(r"python[0-9.]+dist\((.+)\) >= (\S+)", line))}
    ours = {m[1]: m[2] for line in lines if (m := re.match(r"python3-(\S+) >= (\S+)", line))}
    assert {name: re.sub(r"(\.0)+$", "", floor) for name, floor in ours.items()} == generated


def test_scripts_for_other_machines_require_nothing_here(rpms: Path) -> None:
    names = {line.split()[0] for part in ("libs", "pilot") for line in query(package(rpms, part), "--requires")}
    assert not {name for name in names if name.startswith("/")}
