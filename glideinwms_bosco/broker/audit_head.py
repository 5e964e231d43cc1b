# SPDX-License-Identifier: Apache-2.0
"""The head of the audit log: number and digest of its last line, signed, kept in a file and in the journal.

A chain does not show that lines are missing at its end; a head that was written down elsewhere does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.errors import AuditError
from glideinwms_bosco.sshwire.handle import spki_pin

FILE = "audit.head"
MAX_HEAD_BYTES = 4096
_LABEL = b"gwms-ssh-broker audit head v1\0"
_LINE = re.compile(r"audit head ([1-9][0-9]{0,17}) ([0-9a-f]{64})(?![0-9a-f])", re.ASCII)


@dataclass(frozen=True)
class Head:
    """Number and digest (hex) of the last line at some moment."""

    seq: int
    digest: str

    @property
    def journal_line(self) -> str:
        """The line for the journal."""
        return f"audit head {self.seq} {self.digest}"

    @property
    def signed(self) -> bytes:
        """What a signature covers."""
        return _LABEL + self.journal_line.encode("ascii")


def heads_of_journal(text: str) -> tuple[Head, ...]:
    """Heads in any text that holds journal lines, such as the output of journalctl."""
    return tuple(Head(int(match.group(1)), match.group(2)) for match in _LINE.finditer(text))


class HeadSigner:
    """Signs heads with the broker's TLS key (P-256).

    Args:
        key_file: PEM, without passphrase.

    Raises:
        AuditError: it cannot be read or is another key.
    """

    def __init__(self, key_file: Path) -> None:
        hint = "name the key of the broker's TLS identity"
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except OSError as error:
            raise AuditError(f"{key_file}: cannot be read: {error.strerror}", hint) from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise AuditError(f"{key_file}: no private key", hint) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuditError(f"{key_file}: not an elliptic curve key", hint)
        self._key = key

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        public = self._key.public_key()
        return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def write(self, folder: Path, head: Head) -> None:
        """Put a signed head into the log's folder.

        Raises:
            AuditError: it cannot be written.
        """
        signature = self._key.sign(head.signed, ec.ECDSA(hashes.SHA256()))
        content = {
            "seq": head.seq,
            "digest": head.digest,
            "broker": spki_pin(self.public_der),
            "public_key": base64.b64encode(self.public_der).decode("ascii"),
            "signature": base64.b64encode(signature).decode("ascii"),
        }
        try:
            write_atomic(folder / FILE, (json.dumps(content, indent=2) + "\n").encode("ascii"), mode=0o640)
        except OSError as error:
            raise AuditError(f"{folder / FILE}: cannot be written: {error.strerror}") from None


def read_head(folder: Path, broker_pin: Optional[str] = None) -> Optional[Head]:
    """Read the head of a log's folder and check its signature.

    Args:
        broker_pin: of the key that must have signed; None takes the key that the file names.

    Returns:
        None when there is none.

    Raises:
        AuditError: it is damaged, or signed by another key.
    """
    file = folder / FILE
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(MAX_HEAD_BYTES))
        der = base64.b64decode(content["public_key"], validate=True)
        signature = base64.b64decode(content["signature"], validate=True)
        head = Head(content["seq"], content["digest"])
        key = serialization.load_der_public_key(der)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error, UnsupportedAlgorithm):
        raise AuditError(f"{file}: is damaged or was altered", "compare with the journal: verify --journal") from None
    if broker_pin is not None and spki_pin(der) != broker_pin:
        raise AuditError(f"{file}: signed by {spki_pin(der)}, not by this broker ({broker_pin})")
    _check_signature(file, key, signature, head)
    return head


def _check_signature(file: Path, key: Union[object, ec.EllipticCurvePublicKey], signature: bytes, head: Head) -> None:
    well_formed = type(head.seq) is int and isinstance(head.digest, str) and heads_of_journal(head.journal_line)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not well_formed:
        raise AuditError(f"{file}: is damaged or was altered", "compare with the journal: verify --journal")
    try:
        key.verify(signature, head.signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AuditError(f"{file}: its signature does not hold: it was altered") from None
