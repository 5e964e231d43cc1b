# SPDX-License-Identifier: Apache-2.0
"""Where an egress proxy has its files, and as whom it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from glideinwms_bosco.errors import EgressError

_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Places:
    """Folders, absolute, without anything that a configuration or unit would interpret.

    Attributes:
        conf: configuration, keys.
        log: of squid.
        cache: of squid.
        user: account of squid and Dante; systemd makes it for them alone.
    """

    conf: str = "/etc/gwms-egress"
    log: str = "/var/log/gwms-egress"
    cache: str = "/var/cache/gwms-egress/squid"
    user: str = "gwms-egress"

    def __post_init__(self) -> None:
        for path in (self.conf, self.log, self.cache):
            if not _PATH.fullmatch(path) or ".." in path.split("/"):
                raise EgressError(f"{path[:80]!r} is no plain absolute path")
        if not _USER.fullmatch(self.user):
            raise EgressError(f"{self.user[:80]!r} is no account name")
