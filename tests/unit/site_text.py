# SPDX-License-Identifier: Apache-2.0
"""A small valid site file that tests change in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from glideinwms_bosco.errors import Problem, SiteFileError
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIRcqzX9dC1CMYrRHTPKZj6PSTYuoVwVOPe7TrPGCUnK"

VALID = f"""\
site: T3_XX_Test
trust_domain: bosco.test
login:
  host: login.example.org
  host_keys: ["{HOST_KEY}"]
accounts:
  - user: pilot
    credential: broker
batch:
  system: slurm
  queue: normal
entries:
  - name: Test_Entry
    cpus: 8
    memory_mb: 16000
    walltime: 48h
"""


def use_host_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folders of an installed host below `folder` and point the command at them; returns `folder`."""
    for variable, name in (
        ("SITES", "sites.d"),
        ("CONFIG_D", "config.d"),
        ("STATE", "state"),
        ("OVERRIDES", "overrides"),
    ):
        (folder / name).mkdir()
        monkeypatch.setenv(f"GWMS_BOSCO_{variable}", str(folder / name))
    monkeypatch.delenv("GWMS_BOSCO_CONFIG", raising=False)
    return folder


def write_site(folder: Path, old: str = "", new: str = "", name: str = "test") -> Path:
    """Write the valid file with one replacement; `old` must occur exactly once."""
    assert not old or VALID.count(old) == 1, f"{old!r} occurs {VALID.count(old)} times"
    path = folder / f"{name}.yaml"
    path.write_text(VALID.replace(old, new) if old else VALID, encoding="utf-8")
    return path


def changed_site(folder: Path, old: str = "", new: str = "") -> SiteDescription:
    """Load the valid file with one replacement."""
    return load_site(write_site(folder, old, new))[0]


def problems_of(path: Path) -> tuple[Problem, ...]:
    """All problems of a site file, warnings of a good one included."""
    try:
        return load_site(path)[1]
    except SiteFileError as err:
        return err.problems
