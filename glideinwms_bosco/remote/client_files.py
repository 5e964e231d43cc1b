# SPDX-License-Identifier: Apache-2.0
"""Write the factory's ssh client configuration into the state folder."""

from __future__ import annotations

from pathlib import Path

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.factory_ssh import FactorySsh

_FOLDER_MODE = 0o755


def client_files(state_dir: Path) -> tuple[Path, Path]:
    """Paths of the ssh configuration and of its known_hosts."""
    return state_dir / "ssh" / "config", state_dir / "ssh" / "known_hosts"


def write_client_files(state_dir: Path, files: FactorySsh) -> bool:
    """Write both files atomically, known_hosts first: the configuration never names keys that are not there.

    Returns:
        False when both already had this content.

    Raises:
        UsageError: the folder cannot be written.
    """
    config, known_hosts = client_files(state_dir)
    try:
        config.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        return any(
            [write_atomic(known_hosts, files.known_hosts.encode()), write_atomic(config, files.ssh_config.encode())]
        )
    except OSError as err:
        raise UsageError(f"{config.parent}: cannot be written: {err.strerror}", "set GWMS_BOSCO_STATE") from None
