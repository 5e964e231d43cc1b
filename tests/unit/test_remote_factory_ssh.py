# SPDX-License-Identifier: Apache-2.0
"""The schedd user's ssh configuration matches the way remote_gahp calls ssh, and refuses contradictions."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.connection import Endpoint
from glideinwms_bosco.remote.factory_ssh import render_factory_ssh
from tests.unit.test_remote_connection import KEY, OTHER_KEY, RSA_KEY

KNOWN_HOSTS = Path("/etc/gwms-bosco/known_hosts")
LOGIN = Endpoint("login.example.org", 22, "pilot", (KEY,))
JUMP = Endpoint("gate.example.org", 2222, "hop", (RSA_KEY,))


def effective(config: str, tmp_path: Path, *arguments: str) -> dict[str, str]:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    # As an Include of a configuration that hides agent keys from ssh, which is what ours must undo.
    (tmp_path / "ours").write_text(config)
    (tmp_path / "config").write_text(f"Include {tmp_path / 'ours'}\nHost *\n  IdentitiesOnly yes\n")
    argv = ["ssh", "-T", "-G", "-F", str(tmp_path / "config"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {line.partition(" ")[0]: line.partition(" ")[2] for line in done.stdout.splitlines()}


def test_block_applies_to_the_call_of_remote_gahp(tmp_path: Path) -> None:
    config = render_factory_ssh([(LOGIN, (JUMP,))], KNOWN_HOSTS).ssh_config
    options = effective(config, tmp_path, "-o", "BatchMode yes", "pilot@login.example.org")
    assert options["exitonforwardfailure"] == "yes"
    assert options["stricthostkeychecking"] == "true"
    assert options["proxyjump"] == "hop@gate.example.org:2222"
    assert options["identitiesonly"] == "no"
    assert options["userknownhostsfile"] == str(KNOWN_HOSTS)
    assert options["preferredauthentications"] == "publickey"
    assert "IdentityFile" not in config
    # As ssh starts itself for the jump.
    hop = effective(config, tmp_path, "-l", "hop", "-p", "2222", "gate.example.org")
    assert hop["stricthostkeychecking"] == "true"
    assert "proxyjump" not in hop


def test_leaves_other_hosts_and_users_alone(tmp_path: Path) -> None:
    config = render_factory_ssh([(LOGIN, ())], KNOWN_HOSTS).ssh_config
    for target in ("other@login.example.org", "pilot@elsewhere.example.org"):
        options = effective(config, tmp_path, target)
        assert options["exitonforwardfailure"] == "no"
        assert options["identitiesonly"] == "yes"


def test_same_input_in_any_order_gives_same_text() -> None:
    other = Endpoint("login2.example.org", 22, "pilot", (KEY,))
    first = render_factory_ssh([(LOGIN, (JUMP,)), (other, ())], KNOWN_HOSTS)
    assert first == render_factory_ssh([(other, ()), (LOGIN, (JUMP,)), (LOGIN, (JUMP,))], KNOWN_HOSTS)
    assert first.known_hosts.splitlines() == [
        f"[gate.example.org]:2222 {RSA_KEY}", f"login.example.org {KEY}", f"login2.example.org {KEY}",
    ]  # fmt: skip


def test_two_accounts_on_one_host_share_its_key() -> None:
    second = dataclasses.replace(LOGIN, user="pilot2")
    rendered = render_factory_ssh([(LOGIN, ()), (second, ())], KNOWN_HOSTS)
    assert rendered.ssh_config.count("Match originalhost") == 2
    assert rendered.known_hosts.count("\n") == 1


@pytest.mark.parametrize(
    ("other", "jumps", "what"),
    [
        (dataclasses.replace(LOGIN, host_keys=(OTHER_KEY,)), (), "pinned host keys"),
        (dataclasses.replace(LOGIN, host_keys=(OTHER_KEY,), user="pilot2"), (), "pinned host keys"),
        (dataclasses.replace(LOGIN, host_keys=(KEY, RSA_KEY), host="LOGIN.example.org"), (), "pinned host keys"),
        (LOGIN, (JUMP,), "jump hosts"),
        (dataclasses.replace(LOGIN, user="pilot2"), (JUMP,), "jump hosts"),
        (dataclasses.replace(LOGIN, port=2222), (), "ports"),
    ],
)
def test_refuses_sites_that_disagree(other: Endpoint, jumps: tuple[Endpoint, ...], what: str) -> None:
    with pytest.raises(RemoteError, match=f"different {what}"):
        render_factory_ssh([(LOGIN, ()), (other, jumps)], KNOWN_HOSTS)


def test_refuses_relative_known_hosts_path() -> None:
    with pytest.raises(RemoteError, match="absolute"):
        render_factory_ssh([(LOGIN, ())], Path("known_hosts"))
