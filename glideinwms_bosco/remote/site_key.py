# SPDX-License-Identifier: Apache-2.0
"""The tunnel's key where the site lets us keep one: made on the login node, allowed there for nothing but the tunnel.

The private half never leaves the site. Its line in authorized_keys is known again by the marker that ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.errors import RemoteError
from glideinwms_bosco.remote.account_lock import lock_parameters
from glideinwms_bosco.remote.messages import MessageFormatError, Reply, one_line
from glideinwms_bosco.remote.program import load_program
from glideinwms_bosco.remote.ssh import SshSession

KEY_FOLDER = "egress"
"""Below bosco_dir, beside versions/: an upgrade keeps the key."""
KEY_TIMEOUT_S = 120.0
MAKE, ROTATE, LOOK = "make", "rotate", "look"
WARNING = (
    "this puts a private key on the site's storage: some centres forbid that, and payloads run as the same user and "
    "can read it; it opens nothing but the tunnel, from the workers"
)
_PUBLIC = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
_MODE = re.compile(r"[0-7]{1,4}")
_OPTIONS = re.compile(r'restrict,[A-Za-z0-9_.,:=/"*\[\]-]+')
_WORDS = {"KEY": ("none", "kept", "made", "rotated"), "LINE": ("kept", "written", "other")}
_HINT = "look at it on the login node; `remote deploy --rotate-site-key` makes a new key"


@dataclass(frozen=True)
class SiteKeyReport:
    """What was done with the tunnel's key, or would be.

    Attributes:
        action: "unchanged", "made", "rotated" or "line-changed" (the key stayed, its limits are others now); with
            dry_run "unchanged", "would-make", "would-rotate" or "would-change-line".
        public_key: `ssh-ed25519 BASE64`; None when there is none yet.
        authorized_keys: path of the file on the site, for showing.
        line: what stands in it, with the key's limits; None when there is no key yet.
        notes: sentences for the operator.
    """

    action: str
    public_key: Optional[str]
    authorized_keys: str
    line: Optional[str]
    notes: tuple[str, ...]


def key_marker(bosco_dir: str) -> str:
    """What ends the line of an installation's key in authorized_keys; one account may hold several installations."""
    return f"gwms-bosco-tunnel:{bosco_dir}"


def place_site_key(
    session: SshSession, bosco_dir: str, options: str, *, rotate: bool = False, dry_run: bool = False
) -> SiteKeyReport:
    """Have a key on the site, and exactly one line for it in authorized_keys; a repeated call changes nothing.

    Args:
        session: open.
        bosco_dir: relative to the remote home.
        options: what limits the key: the beginning of its line (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
        rotate: make a new key even where there is one; that one is not allowed any more then.
        dry_run: change nothing.

    Raises:
        BusyError: another operator is changing the account.
        RemoteError: the options would not limit the key, the key there cannot be used, authorized_keys cannot be
            changed, or the key stands in it without our limits; and as `SshSession.run_script`.
    """
    if not _OPTIONS.fullmatch(options):
        raise RemoteError(f"{session.label}: these options do not limit the tunnel's key: {one_line(options)}")
    mode = LOOK if dry_run else ROTATE if rotate else MAKE
    marker = key_marker(bosco_dir)
    header = (bosco_dir, *lock_parameters("deploy"), mode, marker, options)
    program = load_program("begin.sh", "lock.sh", "keys.sh", "site_key.sh")
    try:
        reply = session.run_script(program, header, deadline_s=KEY_TIMEOUT_S)
        return parse_site_key(reply, options, marker, rotate=rotate, dry_run=dry_run)
    except MessageFormatError as error:
        raise RemoteError(f"{session.label} gave an answer that cannot be understood: {error}") from None
    except RemoteError as error:
        if type(error) is RemoteError and not error.hint:
            raise RemoteError(error.message, _HINT, error.detail) from None
        raise


def parse_site_key(reply: Reply, options: str, marker: str, *, rotate: bool, dry_run: bool) -> SiteKeyReport:
    """Read the answer of scripts/site_key.sh.

    Raises:
        MessageFormatError: a line is missing, doubled or of another form.
    """
    key, line = (_word(reply, name) for name in ("KEY", "LINE"))
    public = _public(reply.values("PUBLIC"))
    if public is None and not dry_run:
        raise MessageFormatError("no line PUBLIC")
    if dry_run:
        action = "would-make" if key == "none" else "would-rotate" if rotate else "unchanged"
        action = "would-change-line" if action == "unchanged" and line != "kept" else action
    else:
        action = key if key != "kept" else "unchanged" if line == "kept" else "line-changed"
    return SiteKeyReport(
        action,
        public,
        one_line(reply.only("KEYS")),
        None if public is None else f"{options} {public} {marker}",
        tuple(_wide_note(mode, dry_run) for mode in reply.values("WIDE")),
    )


def _word(reply: Reply, name: str) -> str:
    word = reply.only(name)
    if word not in _WORDS[name]:
        raise MessageFormatError(f"{name} {word[:40]!r}")
    return word


def _public(values: Sequence[str]) -> Optional[str]:
    if not values:
        return None
    if len(values) > 1 or not _PUBLIC.fullmatch(values[0]):
        raise MessageFormatError("PUBLIC is not one ed25519 key")
    return values[0]


def _wide_note(mode: str, dry_run: bool) -> str:
    if not _MODE.fullmatch(mode):
        raise MessageFormatError(f"WIDE {mode[:40]!r}")
    return (
        f"the tunnel's key had mode {mode}, so others may have read it"
        f"{'' if dry_run else '; it is closed now'}: rotate it (--rotate-site-key)"
    )
