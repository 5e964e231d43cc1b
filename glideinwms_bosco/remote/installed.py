# SPDX-License-Identifier: Apache-2.0
"""Which bundle an account uses."""

from __future__ import annotations

import re
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

LINK_TIMEOUT_S = 60.0
_TARGET = re.compile(r"versions/([0-9a-f]{64})")


def installed_digest(session: SshSession, bosco_dir: str) -> Optional[str]:
    """Ask where `~/<bosco_dir>/glite` points to; None when it is not a bundle of ours (a hand-made install).

    Raises:
        RemoteError: there is nothing at all, or the account does not answer.
    """
    program = load_program("begin.sh", "link.sh")
    # It names pilots too, which nobody asks for here: one at most.
    reply = session.run_script(program, (bosco_dir, "1"), deadline_s=LINK_TIMEOUT_S)
    if not reply.values("LINK") and not reply.values("OTHER"):
        raise RemoteError(f"{session.label}: there is no ~/{bosco_dir}/glite", "run `gwms-bosco remote deploy` first")
    found = _TARGET.fullmatch(reply.values("LINK")[0]) if reply.values("LINK") else None
    return found[1] if found else None
