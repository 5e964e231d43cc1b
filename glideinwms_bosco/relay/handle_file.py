# SPDX-License-Identifier: Apache-2.0
"""Read what `--rgahp-key` names and decide whether that broker's frontend may have put it there.

glideinWMS names the factory's own credential file in the grid resource, and the gridmanager passes the path on as it
is: no copy in HTCondor's spool is ever meant. All frontends' gahps run as one user, so the place of the file is the
only thing that tells whose it is; without this check one frontend could send another one's handle and run as it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Optional

from glideinwms_bosco.errors import RelayError, WireError
from glideinwms_bosco.relay.conf import BrokerConf, RelayConf
from glideinwms_bosco.relay.credential_path import covered
from glideinwms_bosco.sshwire.handle import MAX_TEXT_BYTES, HandleReference, read_handle_text

DENY_NOT_YOURS = 19


def read_handle_file(path: str) -> Optional[HandleReference]:
    """Read a key file; None when it is a real key, something else, or not there.

    Raises:
        RelayError: it claims to be a handle and is damaged.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                return None
            text = stream.read(MAX_TEXT_BYTES + 1)
    except OSError:
        return None
    try:
        return read_handle_text(text)
    except WireError as err:
        raise RelayError(f"{path}: {err.message}", "the frontend sends a new handle") from None


def owner_of(conf: RelayConf, path: str, reference: HandleReference) -> BrokerConf:
    """The broker that a handle file belongs to.

    Args:
        path: as it was given to remote_gahp.

    Raises:
        RelayError: no broker of relay.conf may serve a file at this place, or it is another one (DENY 19).
    """
    broker = conf.broker_of(reference.broker_pin)
    if broker is None:
        raise RelayError(
            f"DENY {DENY_NOT_YOURS}: no broker with pin {reference.broker_pin} is in {conf.file}",
            f"the factory's administrator adds it, or the frontend sends a handle of its own ({path})",
        )
    if not covered(path, broker.credential_paths):
        raise RelayError(
            f"DENY {DENY_NOT_YOURS}: handle {reference.handle} is of the broker {broker.name}, whose frontend has no "
            f"credentials at {path}",
            f"the factory's administrator compares credential_paths of {broker.name} in {conf.file}",
        )
    return broker


def socket_file(conf: RelayConf, handle: str) -> Path:
    """The agent socket of a handle."""
    return conf.socket_dir / f"{handle}.sock"
