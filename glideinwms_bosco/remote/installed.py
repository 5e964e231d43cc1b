# SPDX-License-Identifier: Apache-2.0
"""Which bundle an account uses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.messages import Reply
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

LINK_TIMEOUT_S = 60.0
_TARGET = re.compile(r"versions/([0-9a-f]{64})")


@dataclass(frozen=True)
class Installed:
    """What `~/<bosco_dir>/glite` is: "ours", with the digest, "foreign" (not a link of ours) or "none"."""

    kind: str
    digest: Optional[str] = None


def read_installed(reply: Reply) -> Installed:
    """Take it from the answer of scripts/link.sh."""
    links = reply.values("LINK")
    found = _TARGET.fullmatch(links[0]) if links else None
    if found:
        return Installed("ours", found[1])
    return Installed("foreign" if links or reply.values("OTHER") else "none")


def installed_digest(session: SshSession, bosco_dir: str) -> Optional[str]:
    """Ask where `~/<bosco_dir>/glite` points to; None when it is not a bundle of ours (a hand-made install).

    Raises:
        RemoteError: there is nothing at all, or the account does not answer.
    """
    reply = session.run_script(load_program("begin.sh", "link.sh"), (bosco_dir,), deadline_s=LINK_TIMEOUT_S)
    installed = read_installed(reply)
    if installed.kind == "none":
        raise RemoteError(f"{session.label}: there is no ~/{bosco_dir}/glite", "run `gwms-bosco remote deploy` first")
    return installed.digest
