# SPDX-License-Identifier: Apache-2.0
"""Which bundle an account uses is asked over a real ssh connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.installed import installed_digest
from tests.unit.sshd_fixture import LoopbackSshd, loopback_sshd

__all__ = ["loopback_sshd"]

DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short place for control sockets."""
    path = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path


@pytest.mark.parametrize(
    ("target", "expected"), [(f"versions/{DIGEST}", DIGEST), ("somewhere", None), (f"versions/{DIGEST}x", None)]
)
def test_names_the_version_that_glite_points_to(
    loopback_sshd: LoopbackSshd, target: str, expected: Optional[str]
) -> None:
    folder = loopback_sshd.home / "bosco"
    folder.mkdir()
    (folder / "glite").symlink_to(target)
    with loopback_sshd.session() as session:
        assert installed_digest(session, "bosco") == expected


def test_hand_made_install_is_none_of_ours(loopback_sshd: LoopbackSshd) -> None:
    (loopback_sshd.home / "bosco" / "glite").mkdir(parents=True)
    with loopback_sshd.session() as session:
        assert installed_digest(session, "bosco") is None


def test_account_without_a_bundle_is_told_to_deploy(loopback_sshd: LoopbackSshd) -> None:
    with loopback_sshd.session() as session, pytest.raises(RemoteError, match="no ~/bosco/glite"):
        installed_digest(session, "bosco")
