# SPDX-License-Identifier: Apache-2.0
"""What pages, manual and hints say of files of the packages is true: each such path is in one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glideinwms_bosco.cli import manual
from tests.packages import PARTS, package, query

# Folders in which nothing of ours lies but what a package brings.
_SHIPPED = r"/usr/(?:share|libexec)/gwms-bosco|/usr/bin/gwms|/etc/gwms-factory/hooks|/etc/condor/config\.d"
_PATH = re.compile(rf"(?<![\w./-])(?:{_SHIPPED})[\w./+-]*")


def named_paths(text: str) -> set[str]:
    """Paths of packaged files that a text names; a sentence may end behind one."""
    return {found.rstrip("./") for found in _PATH.findall(text)}


@pytest.fixture(scope="module")
def shipped(rpms: Path) -> set[str]:
    return {line.rstrip("/") for part in PARTS for line in query(package(rpms, part), "-l")}


def test_paths_that_pages_and_hints_name_are_shipped(checkout: Path, shipped: set[str]) -> None:
    texts = [checkout / "README.md", checkout / "packaging" / "README.md"]
    for folder, kinds in (
        ("docs", ("*.md",)), ("glideinwms_bosco", ("*.py", "*.json")), ("factory_configs", ("*.*",)),
    ):  # fmt: skip
        texts += [path for kind in kinds for path in (checkout / folder).rglob(kind) if path.is_file()]
    named = {(str(path.relative_to(checkout)), name) for path in texts for name in named_paths(path.read_text("utf-8"))}
    assert sorted(where for where in named if where[1] not in shipped) == []
    for name in ("jsc-like", "nersc-like"):
        assert ("docs/recipes.md", f"/usr/share/gwms-bosco/examples/sites/{name}.yaml") in named
    assert ("glideinwms_bosco/cli/ssh_relay.py", "/usr/libexec/gwms-bosco/shim") in named


def test_every_page_of_the_manual_is_shipped(shipped: set[str]) -> None:
    pages = {f"/usr/share/man/man{name.rpartition('.')[2]}/{name}.gz" for name in manual.man_files()}
    assert pages - shipped == set()
    assert {name for name in shipped if name.startswith("/usr/share/man/man") and name.endswith(".gz")} == pages


def test_a_path_that_is_not_there_is_noticed() -> None:
    assert named_paths("See `/usr/share/gwms-bosco/examples/egress/`.") == {"/usr/share/gwms-bosco/examples/egress"}
    assert named_paths("in /usr/bin/gwms-ssh-tap, or ./usr/bin/gwms-x") == {"/usr/bin/gwms-ssh-tap"}
