# SPDX-License-Identifier: Apache-2.0
"""Write the factory's ssh client configuration into the state folder."""

from __future__ import annotations

from pathlib import Path

from glideinwms_bosco.errors import UsageError
from glideinwms_bosco.remote.factory_ssh import FactorySsh
from glideinwms_bosco.state_folder import make_folder, write_file, write_hint


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
        make_folder(config.parent, state_dir)
        texts = ((known_hosts, files.known_hosts), (config, files.ssh_config))
        # Both are written, whatever the first says.
        changed = [write_file(path, text.encode(), state_dir) for path, text in texts]
        return any(changed)
    except OSError as err:
        hint = write_hint(err, state_dir, "set GWMS_BOSCO_STATE")
        raise UsageError(f"{config.parent}: cannot be written: {err.strerror}", hint) from None
