# SPDX-License-Identifier: Apache-2.0
"""A handle's key through glideinWMS's own credential code, from the frontend's file to the one at the factory.

GLIDEINWMS_SRC names a glideinWMS checkout, 3.10 or 3.11.
"""

from __future__ import annotations

import base64
import gzip
import importlib
import json
import logging
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from glideinwms_bosco.broker.stanza import Stanza, make_stanza, write_files
from glideinwms_bosco.sshwire.handle import SUBMIT, HandleReference, read_handle_text, spki_pin
from tests.unit import glideinwms_source
from tests.unit.broker_text import ENTRY, SPKI, keyed, policy_data, signer
from tests.unit.glideinwms_source import is_checkout

SOURCE = os.environ.get("GLIDEINWMS_SRC", "")
pytestmark = pytest.mark.skipif(not is_checkout(SOURCE), reason="GLIDEINWMS_SRC names no glideinWMS checkout")

VERSION = "3.11" if (Path(SOURCE) / "lib" / "credentials" / "rsa.py").is_file() else "3.10"
DEADLINE_S = 60.0
REFERENCE = HandleReference(keyed(policy_data()).handle_of(ENTRY, SUBMIT).handle, spki_pin(SPKI))


def made(folder: Path) -> Stanza:
    folder.mkdir()
    stanza = make_stanza(keyed(policy_data()).handle_of(ENTRY, SUBMIT), VERSION, folder, "bosco.example")
    write_files(stanza, REFERENCE)
    return stanza


def carry(tmp_path: Path, public: Path, private: Path) -> dict[str, str]:
    """Load a key pair as the frontend does and store it as the factory does; what the factory then has, by file."""
    packages, factory = tmp_path / "packages", tmp_path / "client-proxies"
    packages.mkdir()
    factory.mkdir()
    (packages / "glideinwms").symlink_to(Path(SOURCE).resolve())
    argv = [sys.executable, "-B", str(Path(__file__).resolve()), VERSION, str(public), str(private), str(factory)]
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": f"{packages}:{Path(__file__).parents[2]}",
        "LC_ALL": "C.UTF-8",
        "GLIDEINWMS_SRC": SOURCE,
    }
    run = subprocess.run(argv, env=env, text=True, capture_output=True, timeout=DEADLINE_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    result: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    return result


def test_the_reference_arrives_at_the_factory(tmp_path: Path) -> None:
    stanza = made(tmp_path / "frontend")
    arrived = carry(tmp_path, stanza.public_file, stanza.private_file)
    sent = stanza.private_file.read_text(encoding="ascii")
    privates = {name: text for name, text in arrived.items() if "PRIVATE KEY" in text}
    assert set(privates.values()) == {sent}, sorted(arrived)
    for text in privates.values():
        assert read_handle_text(text.encode("ascii")) == REFERENCE
    assert stanza.public_file.read_text(encoding="ascii") in arrived.values()


def test_file_names_at_the_factory_are_this_handles_own(tmp_path: Path) -> None:
    """3.11 names a file after the frontend's file alone: two frontends must not overwrite each other's."""
    stanza = made(tmp_path / "frontend")
    arrived = carry(tmp_path, stanza.public_file, stanza.private_file)
    if VERSION == "3.11":
        assert all(REFERENCE.handle in name for name in arrived)
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-") for name in arrived
    )


def test_a_real_ed25519_key_would_not_pass_3_11(tmp_path: Path) -> None:
    """Why the handle is an RSA key: the control that this test sees glideinWMS's own parser."""
    real = signer("user").write(tmp_path / "real")
    if VERSION == "3.10":
        assert carry(tmp_path, Path(f"{real}.pub"), real)
    else:
        with pytest.raises(AssertionError, match="Could not load credential pair"):
            carry(tmp_path, Path(f"{real}.pub"), real)


def _carry_3_10(public: Path, private: Path, factory: Path) -> dict[str, str]:
    """`Credential.getString` at the frontend, `update_credential_file` at the factory."""
    interface: Any = importlib.import_module("glideinwms.frontend.glideinFrontendInterface")
    credentials: Any = importlib.import_module("glideinwms.factory.glideFactoryCredentials")
    library: Any = importlib.import_module("glideinwms.factory.glideFactoryLib")
    library.factoryConfig = SimpleNamespace(get_client_proxies_dir=lambda _user: str(factory))
    credential = object.__new__(interface.Credential)
    credential.advertise, credential.filename = True, str(public)
    for number, path in enumerate((public, private)):
        text = credential.getString(str(path))
        credentials.update_credential_file("frontend", f"id{number}", text.encode("utf-8"), "client")
    return {path.name: _uncompressed(path) for path in sorted(factory.iterdir())}


def _uncompressed(path: Path) -> str:
    text = path.read_text(encoding="ascii")
    marker = "glidein_credentials="
    packed = text.startswith(marker)
    return gzip.decompress(base64.b64decode(text[len(marker) :])).decode("ascii") if packed else text


def _carry_3_11(public: Path, private: Path, factory: Path) -> dict[str, str]:
    """`load_from_element` at the frontend, the pickled copy, `standard_path` and `save_to_file` at the factory."""
    types: Any = importlib.import_module("cryptography.hazmat.primitives.asymmetric.types")
    for name in ("PRIVATE_KEY_TYPES", "PUBLIC_KEY_TYPES", "CERTIFICATE_PUBLIC_KEY_TYPES"):
        # 3.11 imports names that cryptography 42 has dropped; they are used in annotations only.
        if not hasattr(types, name):
            setattr(types, name, Any)
    pickle: Any = importlib.import_module("pickle")
    credentials: Any = importlib.import_module("glideinwms.lib.credentials")
    bundle = credentials.SecurityBundle()
    path = str(public)
    element: dict[str, Any] = {
        "Proxies": [path], "ProxyTypes": {path: "key_pair"}, "CredentialPurposes": {path: "request"},
        "ProxyTrustDomains": {}, "ProxySecurityClasses": {}, "CredentialCreationScripts": {},
        "CredentialMinimumLifetime": {}, "CredentialContexts": {}, "ProxyKeyFiles": {path: str(private)},
        "Parameters": {},
    }  # fmt: skip
    bundle.load_from_element(element)
    (loaded,) = bundle.credentials.values()
    pair = pickle.loads(pickle.dumps(loaded.copy()))
    for half in (pair, pair.private_credential):
        half.path = str(factory / Path(half.path).name)
        half.path = credentials.standard_path(half)
        half.save_to_file(backup=True)
        assert half.valid
    return {stored.name: stored.read_text(encoding="ascii") for stored in sorted(factory.iterdir())}


class _Missing(glideinwms_source._StandIns):
    """Stand-ins for what glideinWMS imports on its way and does not use on a key pair; cryptography is the real one."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Optional[ModuleSpec]:
        return super().find_spec(fullname, path, target) if fullname.split(".")[0] in ("M2Crypto", "jwt") else None


def _main(version: str, public: str, private: str, factory: str) -> None:
    # sys.path[0] is the folder of this file; nothing of the tests may be found by glideinWMS.
    del sys.path[0]
    sys.meta_path.insert(0, _Missing())
    logs: Any = importlib.import_module("glideinwms.lib.logSupport")
    logs.log = logging.getLogger("glideinwms")
    way = _carry_3_11 if version == "3.11" else _carry_3_10
    sys.stdout.write("\n" + json.dumps(way(Path(public), Path(private), Path(factory))) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
