# SPDX-License-Identifier: Apache-2.0
"""The `<credential>` element of frontend.xml for a handle, and the files that it names.

The handle takes the place of the private key; the rest of glideinWMS stays as it is.

Source: 3.10 creation/lib/cvWParams.py and frontend/glideinFrontendInterface.py (Credential), 3.11
lib/credentials/utils.py (SecurityBundle.load_from_element) and lib/credentials/rsa.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional
from xml.sax.saxutils import quoteattr

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.broker.policy_model import Handle
from glideinwms_bosco.errors import BrokerError, UsageError, WireError
from glideinwms_bosco.sshwire.handle import SUBMIT, HandleReference, make_handle_key, read_handle_text

VERSIONS = ("3.10", "3.11")
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
MAX_KEY_BYTES = 65536

# 3.10 requires a pilot proxy with every key pair and reads it as text (check_security_credentials); whoever has only
# tokens gives it this. On the worker node setup_x509.sh passes over it when there is an idtoken.
PLACEHOLDER = "# No proxy: pilots of this frontend authenticate with tokens. glideinWMS 3.10 wants a file here.\n"

_WORD = re.compile(r"[A-Za-z0-9._:@-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class Stanza:
    """What an administrator puts into frontend.xml.

    Attributes:
        xml: the element, on several lines, with a newline.
        notes: what else has to be so, one sentence each.
        private_file: where the handle stands.
        public_file: its powerless public half.
        proxy_file: the placeholder for the pilot proxy; None when none is needed.
    """

    xml: str
    notes: tuple[str, ...]
    private_file: Path
    public_file: Path
    proxy_file: Optional[Path]


def make_stanza(
    handle: Handle,
    version: str,
    folder: Path,
    trust_domain: str,
    security_class: str = "frontend",
    pilot_proxy: Optional[Path] = None,
) -> Stanza:
    """Compose the element; nothing is written.

    Args:
        version: of glideinWMS at the frontend, one of VERSIONS.
        folder: where the handle's files are kept, readable by the frontend's user.
        trust_domain: that of the factory's entries.
        pilot_proxy: a real proxy for the pilots; None: they have tokens.

    Raises:
        UsageError: another version, a relative folder, a word that glideinWMS could not carry.
        BrokerError: the handle is not for pilots.
    """
    _check(version, folder, trust_domain, security_class)
    if handle.purpose != SUBMIT:
        raise BrokerError(f"{handle.entry.name}: only the submit handle goes into frontend.xml")
    # The file's name reaches the factory. 3.11 makes its file name there of nothing else, so it must be ours alone.
    private_file = folder / f"{handle.entry.name}-{handle.handle}"
    public_file = private_file.with_name(f"{private_file.name}.pub")
    proxy_file = None
    attributes = {"absfname": str(public_file), "keyabsfname": str(private_file)}
    notes = [f'the factory\'s entry needs auth_method="key_pair" and trust_domain="{trust_domain}"']
    if version == "3.10":
        proxy_file = private_file.with_name(f"{private_file.name}.proxy") if pilot_proxy is None else None
        attributes["pilotabsfname"] = str(pilot_proxy or proxy_file)
        attributes["remote_username"] = handle.entry.user
        if proxy_file is not None:
            notes.append("reconfig says 'Failed to extract DN' about the placeholder proxy: expected, it goes on")
    else:
        attributes["purpose"] = "request"
        notes.append('a 3.11 factory needs CONTINUE_IF_NO_PROXY="True" on the entry: no proxy is sent with key_pair')
        notes.append(f"the account {handle.entry.user} must stand in the entry's gatekeeper, user@host")
    attributes.update(security_class=security_class, trust_domain=trust_domain, type="key_pair")
    lines = "\n            ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return Stanza(f"<credential {lines}/>\n", tuple(notes), private_file, public_file, proxy_file)


def write_files(stanza: Stanza, reference: HandleReference) -> bool:
    """Write the handle's files. A handle that is there already is kept: making it anew would only churn the factory.

    Returns:
        False when all were there.

    Raises:
        BrokerError: a file cannot be written, or something else stands in its place.
    """
    try:
        pair = _existing(stanza, reference)
        changed = pair is None
        if pair is None:
            private, public = make_handle_key(reference)
            # The public half last: glideinWMS looks for it first.
            write_atomic(stanza.private_file, private.encode("ascii"), mode=PRIVATE_MODE)
            write_atomic(stanza.public_file, public.encode("ascii"), mode=PUBLIC_MODE)
        if stanza.proxy_file is not None:
            changed |= write_atomic(stanza.proxy_file, PLACEHOLDER.encode("ascii"), mode=PRIVATE_MODE)
    except OSError as error:
        folder = stanza.private_file.parent
        hint = "run as root" if folder.is_dir() else f"make it, for the frontend's user: install -d -m 0700 {folder}"
        raise BrokerError(f"{folder}: cannot be written: {error.strerror}", hint) from None
    return changed


def _existing(stanza: Stanza, reference: HandleReference) -> Optional[bytes]:
    if not stanza.private_file.exists():
        return None
    with stanza.private_file.open("rb") as stream:
        text = stream.read(MAX_KEY_BYTES)
    try:
        found = read_handle_text(text)
    except WireError:
        found = None
    if found is None:
        # Never overwrite what may be somebody's real key.
        raise BrokerError(f"{stanza.private_file}: holds something that is no handle", "move it away, then repeat")
    return text if found == reference and stanza.public_file.exists() else None


def _check(version: str, folder: Path, trust_domain: str, security_class: str) -> None:
    if version not in VERSIONS:
        raise UsageError(f"glideinWMS {version[:20]!r} is not known", f"one of: {', '.join(VERSIONS)}")
    if not folder.is_absolute():
        raise UsageError(f"{folder}: is a relative path", "glideinWMS reads it from another folder")
    for word, what in ((trust_domain, "trust domain"), (security_class, "security class")):
        if not _WORD.fullmatch(word):
            raise UsageError(f"{word[:60]!r} is no usable {what}", "letters, digits, and . _ : @ -")
