# SPDX-License-Identifier: Apache-2.0
"""Public keys that were seen once, in a file of the state folder: by them an entry whose key is not loaded has handles.

So a factory that asks for a disabled entry, or for one whose token is away, hears this and not that there is no such
handle. What the file says is never signed with.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.atomic import write_atomic
from glideinwms_bosco.broker.policy_model import KeySource, Policy
from glideinwms_bosco.errors import PolicyFileError, WireError
from glideinwms_bosco.json_file import JsonSource
from glideinwms_bosco.sshwire.keys import PublicKey, parse_authorized

LOG = logging.getLogger("gwms-ssh-broker")

FILE_NAME = "public-keys.json"
MODE = 0o640

_Row = tuple[str, PublicKey]


class SeenKeys:
    """The file; one that cannot be read counts as empty, since it only makes refusals say more.

    Args:
        folder: the broker's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._rows = self._read()

    def get(self, entry: str, source: KeySource) -> Optional[PublicKey]:
        """The last key of an entry that still has the same source."""
        row = self._rows.get(entry)
        return row[1] if row is not None and row[0] == _digest(source) else None

    def learn(self, policy: Policy, keys: Mapping[str, PublicKey]) -> None:
        """Remember keys by entry name; forget entries that the policy no longer has."""
        rows = {name: row for name, row in self._rows.items() if name in policy.entries}
        rows.update((name, (_digest(policy.entries[name].key), key)) for name, key in keys.items())
        if rows == self._rows:
            return
        self._rows = rows
        content = {name: {"source": digest, "public": key.authorized} for name, (digest, key) in rows.items()}
        try:
            write_atomic(self._path, (json.dumps({"keys": content}, indent=1) + "\n").encode("ascii"), MODE)
        except OSError as err:
            LOG.error("%s: cannot be written: %s", self._path, err.strerror)

    def _read(self) -> dict[str, _Row]:
        if not self._path.exists():
            return {}
        try:
            keys: Mapping[str, Any] = JsonSource.read(self._path, PolicyFileError).data["keys"]
            return {name: (str(row["source"]), parse_authorized(row["public"])) for name, row in keys.items()}
        except (PolicyFileError, WireError, KeyError, TypeError, AttributeError) as err:
            LOG.warning("%s: is not used: %s", self._path, err)
            return {}


def _digest(source: KeySource) -> str:
    return hashlib.sha256(repr(astuple(source)).encode("utf-8")).hexdigest()
