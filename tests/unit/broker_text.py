# SPDX-License-Identifier: Apache-2.0
"""Keys that really sign, and a policy that is valid, for the tests of the broker."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Optional

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from glideinwms_bosco.broker.policy import KeyedPolicy, Policy, parse_policy
from glideinwms_bosco.errors import PolicyFileError
from glideinwms_bosco.json_file import JsonSource
from glideinwms_bosco.sshwire.certificate import Certificate, parse_certificate
from glideinwms_bosco.sshwire.handle import spki_pin
from glideinwms_bosco.sshwire.keys import PublicKey, decode_base64, parse_authorized
from glideinwms_bosco.sshwire.primitives import mpint, string, text

SPKI = b"the broker's key"
PIN = spki_pin(b"the relay's key")
OTHER_PIN = spki_pin(b"another relay's key")
ENTRY = "juwels-cms"
USER = "cmspilot"
HOST = "login.example.edu"

_CURVES: dict[str, tuple[Callable[[], ec.EllipticCurve], hashes.HashAlgorithm]] = {
    "ecdsa-sha2-nistp256": (ec.SECP256R1, hashes.SHA256()),
    "ecdsa-sha2-nistp384": (ec.SECP384R1, hashes.SHA384()),
    "ecdsa-sha2-nistp521": (ec.SECP521R1, hashes.SHA512()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ssh-rsa": hashes.SHA1(),  # noqa: S303 - only to be refused
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}


@dataclass(frozen=True)
class Signer:
    """A private key."""

    private: Any
    public: PublicKey

    @property
    def blob(self) -> bytes:
        """The public half as on the wire."""
        return self.public.blob

    def sign(self, message: bytes, algorithm: Optional[str] = None) -> bytes:
        """An ssh signature blob."""
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return text("ssh-ed25519") + string(self.private.sign(message))
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            name = self.public.algorithm
            r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(_CURVES[name][1])))
            return text(name) + string(mpint(r) + mpint(s))
        name = algorithm or "rsa-sha2-512"
        return text(name) + string(self.private.sign(message, padding.PKCS1v15(), _RSA_HASHES[name]))

    def write(self, path: Path) -> Path:
        """Write both halves, as ssh-keygen does."""
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
        path.touch(mode=0o600)
        path.write_bytes(self.private.private_bytes(encoding, form, serialization.NoEncryption()))
        path.with_name(f"{path.name}.pub").write_text(self.public.authorized + "\n", encoding="ascii")
        return path


@cache
def signer(name: str, algorithm: str = "ssh-ed25519") -> Signer:
    """The key of this name, the same one in the whole run."""
    del name
    private: Any
    if algorithm == "ssh-ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == "ssh-rsa":
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        private = ec.generate_private_key(_CURVES[algorithm][0]())
    line = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Signer(private, parse_authorized(line.decode("ascii")))


def certify(folder: Path, ca: Signer, key: Signer, *options: str) -> Certificate:
    """Have ssh-keygen make a certificate; `options` say for whom (`-h -n NAME`, `-V +1h`)."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, key_file = ca.write(folder / "ca"), key.write(folder / "key")
    argv = ["ssh-keygen", "-q", "-s", str(ca_file), "-I", "test", *options, f"{key_file}.pub"]
    subprocess.run(argv, check=True, capture_output=True)
    line = (folder / "key-cert.pub").read_text(encoding="ascii")
    return parse_certificate(decode_base64(line.split()[1], "certificate"))


def policy_data() -> dict[str, Any]:
    """The values of a policy file: two factories, one entry that the first one may use."""
    return {
        "version": 1,
        "factories": {
            "osg": {"relay": "gfactory.example.org:8620", "spki": [PIN], "source_addresses": ["192.0.2.10/32"]},
            "cern": {"relay": "[2001:db8::1]:8620", "spki": [OTHER_PIN]},
        },
        "handles": {
            ENTRY: {
                "key": {"backend": "ssh-agent", "file": "/etc/keys/juwels-cms"},
                "user": USER,
                "hosts": [{"name": HOST, "keys": [signer("host").public.authorized]}],
                "factories": ["osg"],
                "maintain": {"rate": {"burst": 5, "per_hour": 60}},
            }
        },
    }


def changed(*path: Any, value: Any = None, drop: bool = False) -> dict[str, Any]:
    """The valid policy with one value set, or taken out."""
    data = policy_data()
    at: Any = data
    for part in path[:-1]:
        at = at[part]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = copy.deepcopy(value)
    return data


def as_policy(data: dict[str, Any]) -> Policy:
    """Check and type values of a policy."""
    return parse_policy(JsonSource(json.dumps(data, indent=2), "policy.json", PolicyFileError))


def keyed(data: dict[str, Any], user_key: Optional[Signer] = None) -> KeyedPolicy:
    """The policy with the key of its entry loaded."""
    return as_policy(data).keyed(SPKI, {ENTRY: (user_key or signer("user")).public})


def write_policy(folder: Path, data: Optional[dict[str, Any]] = None) -> Path:
    """Write a policy file."""
    path = folder / "policy.json"
    path.write_text(json.dumps(data or policy_data(), indent=4) + "\n", encoding="utf-8")
    path.chmod(0o640)
    return path
