# SPDX-License-Identifier: Apache-2.0
"""Upgrade and removal leave what people and our commands have made: configuration, keys, state, entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages import PARTS
from tests.packaging.conftest import packages
from tests.packaging.rpm_root import RpmRoot

NAMES = [f"glideinwms-bosco-{part}" for part in PARTS]
RELAY_CONF = "/etc/gwms-ssh-relay/relay.conf"
SETTINGS = "/etc/gwms-bosco/gwms-bosco.yaml"
HOOKS = "/etc/gwms-factory/hooks.reconfig.pre"
UNITS = ("gwms-ssh-broker.service", "gwms-ssh-relay.service")
# What no package brings: path -> mode, owner.
MADE = {
    "/etc/gwms-bosco/sites.d/juwels.yaml": (0o644, "root"),
    "/etc/gwms-bosco/overrides/note": (0o644, "root"),
    "/etc/gwms-factory/config.d/50-juwels.xml": (0o644, "gfactory"),
    "/var/lib/gwms-bosco/history": (0o600, "gfactory"),
    "/etc/gwms-ssh-relay/relay.key": (0o600, "gwms-ssh-relay"),
    "/etc/gwms-ssh-relay/relay.crt": (0o644, "root"),
    "/etc/gwms-ssh-broker/policy.json": (0o640, "root"),
    "/etc/gwms-ssh-broker/juwels-cms": (0o600, "gwms-ssh-broker"),
    "/var/lib/gwms-ssh-broker/broker.key": (0o600, "gwms-ssh-broker"),
    "/var/log/gwms-ssh-broker/audit.jsonl": (0o640, "gwms-ssh-broker"),
    "/etc/gwms-frontend/ssh/juwels-cms": (0o600, "frontend"),
}


@pytest.fixture
def in_use(root: RpmRoot, old_rpms: Path) -> RpmRoot:
    """The earlier release, set up and edited."""
    root.install(packages(old_rpms))
    for name, (mode, owner) in MADE.items():
        root.write(name, f"made: {name}\n", mode, owner)
    edit(root, RELAY_CONF)
    edit(root, SETTINGS)
    root.systemctl_calls()
    return root


def edit(root: RpmRoot, name: str) -> None:
    path = root.path(name)
    path.write_text(path.read_text() + "\n")


def state_of(root: RpmRoot, names: list[str]) -> dict[str, tuple[bytes, int, int, int]]:
    found = {}
    for name in names:
        stat = root.path(name).stat()
        found[name] = (root.path(name).read_bytes(), stat.st_mode, stat.st_uid, stat.st_gid)
    return found


def test_upgrade_keeps_edited_configuration_and_keys(in_use: RpmRoot, rpms: Path) -> None:
    before = state_of(in_use, [*MADE, RELAY_CONF, SETTINGS])
    in_use.install(packages(rpms))
    assert state_of(in_use, [*MADE, RELAY_CONF, SETTINGS]) == before
    # The release changed one of the two: its text lies beside the administrator's.
    assert '"port": 8620' in in_use.path(f"{RELAY_CONF}.rpmnew").read_text()
    assert not in_use.path(f"{SETTINGS}.rpmnew").exists()


def test_upgrade_replaces_programs(in_use: RpmRoot, rpms: Path) -> None:
    gone = in_use.path("/usr/share/gwms-bosco/validation_scripts/gone_setup")
    assert gone.exists()
    in_use.install(packages(rpms))
    assert not gone.exists()
    assert "of an earlier release" not in in_use.path(f"{HOOKS}/50-gwms-bosco").resolve().read_text()
    listed = in_use.rpm("-qa").split()
    assert len(listed) == len(PARTS)


def test_upgrade_restarts_running_daemons_and_changes_no_account(in_use: RpmRoot, rpms: Path) -> None:
    accounts = in_use.accounts()
    in_use.install(packages(rpms))
    assert sorted(in_use.systemctl_calls()) == [f"try-restart {unit}" for unit in UNITS]
    assert in_use.accounts() == accounts


@pytest.mark.parametrize("edited", [False, True], ids=["hook-as-shipped", "hook-edited"])
def test_glideinwms_never_finds_a_second_hook(in_use: RpmRoot, rpms: Path, edited: bool) -> None:
    """It runs every executable file of the folder, .rpmnew and .rpmsave too."""
    if edited:
        edit(in_use, "/usr/libexec/gwms-bosco/reconfig-hook")
    in_use.install(packages(rpms))
    assert [path.name for path in in_use.path(HOOKS).iterdir()] == ["50-gwms-bosco"]
    in_use.erase(*NAMES)
    assert list(in_use.path(HOOKS).iterdir()) == []


def test_removal_leaves_configuration_and_keys(in_use: RpmRoot) -> None:
    before = state_of(in_use, list(MADE))
    edited = state_of(in_use, [RELAY_CONF, SETTINGS])
    accounts = in_use.accounts()
    in_use.erase(*NAMES)
    assert state_of(in_use, list(MADE)) == before
    saved = state_of(in_use, [f"{name}.rpmsave" for name in edited])
    assert list(saved.values()) == list(edited.values())
    # Keys stay, so must whom they belong to.
    assert in_use.accounts() == accounts
    assert sorted(in_use.systemctl_calls()) == [f"--no-reload disable --now {unit}" for unit in UNITS]


def test_removal_takes_everything_else(in_use: RpmRoot) -> None:
    in_use.erase(*NAMES)
    for folder in ("/usr/lib", "/usr/libexec", "/usr/share", "/usr/bin"):
        assert not [path for path in in_use.path(folder).rglob("*") if "gwms" in path.name or "bosco" in path.name]


def test_packages_come_back_over_what_was_left(in_use: RpmRoot, rpms: Path) -> None:
    in_use.erase(*NAMES)
    before = state_of(in_use, list(MADE))
    in_use.install(packages(rpms))
    assert state_of(in_use, list(MADE)) == before
