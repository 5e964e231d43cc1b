# SPDX-License-Identifier: Apache-2.0
"""Where the broker's files are; an environment variable over each folder, so that it runs unprivileged anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glideinwms_bosco.errors import SettingsError

_FOLDERS = {
    # field -> environment variable, default
    "config_dir": ("GWMS_SSH_BROKER_DIR", "/etc/gwms-ssh-broker"),
    "state_dir": ("GWMS_SSH_BROKER_STATE", "/var/lib/gwms-ssh-broker"),
    "log_dir": ("GWMS_SSH_BROKER_LOG", "/var/log/gwms-ssh-broker"),
}
IDENTITY_NAME = "broker"


@dataclass(frozen=True)
class BrokerPaths:
    """The broker's folders.

    Attributes:
        config_dir: policy and encrypted keys; the administrator writes it.
        state_dir: identity, pid file, status, what is open; the broker writes it.
        log_dir: audit log.
        run_dir: private; sockets of the agents. Emptied at each start.
    """

    config_dir: Path
    state_dir: Path
    log_dir: Path
    run_dir: Path

    @property
    def policy(self) -> Path:
        """The policy file."""
        return self.config_dir / "policy.json"

    @property
    def certificate(self) -> Path:
        """The broker's TLS certificate."""
        return self.state_dir / f"{IDENTITY_NAME}.crt"

    @property
    def key(self) -> Path:
        """The private key to it."""
        return self.state_dir / f"{IDENTITY_NAME}.key"

    @property
    def status(self) -> Path:
        """What the daemon says about itself."""
        return self.state_dir / "status.json"

    @property
    def pid(self) -> Path:
        """Its pid; locked as long as it runs."""
        return self.state_dir / "broker.pid"


def broker_paths(environment: Mapping[str, str] = os.environ) -> BrokerPaths:
    """Read the environment.

    Raises:
        SettingsError: a folder is not named from / on.
    """
    folders: dict[str, Path] = {}
    for field, (variable, default) in _FOLDERS.items():
        folders[field] = Path(environment.get(variable) or default)
        if not folders[field].is_absolute():
            raise SettingsError(f"{variable}={folders[field]} is not an absolute path", "write it from / on")
    # systemd's RuntimeDirectory lies in memory; several are separated by colons.
    runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return BrokerPaths(run_dir=(Path(runtime) if runtime else folders["state_dir"]) / "run", **folders)
