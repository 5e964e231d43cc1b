# SPDX-License-Identifier: Apache-2.0
"""What each command last did with each account, and which accounts a command has failed for: JSON in the state folder.

`history/SITE/ACCOUNT.VERB.json` holds one event; one file per verb, so that two commands at work on one account never
write the same file. `failed/VERB.json` holds the labels for `--retry-failed`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.state_folder import make_folder, write_file

MAX_EVENT_BYTES = 1 << 20
MAX_TIME_S = 1e11  # UNIX time, in the year 5138
# Names of sites and accounts are words; this keeps a site file that lies elsewhere from leading out of the folder.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.@+-]|^\.")


@dataclass(frozen=True)
class Event:
    """One command's work on one account.

    Attributes:
        verb: "deploy", "probe" and so on.
        at: UNIX time of its end (s).
        ok: whether it succeeded.
        headline: its result, or the error, in one line.
        report: what `--json` gave; empty after an error.
    """

    verb: str
    at: float
    ok: bool
    headline: str
    report: Mapping[str, Any] = field(default_factory=dict)


class History:
    """The history below a state folder; nothing is made before the first write."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._folder = state_dir / "history"

    def last(self, site: str, account: str, verb: str) -> Optional[Event]:
        """The last event; None when there is none that can be read."""
        data = _read(self._event_file(site, account, verb))
        if not isinstance(data, dict):
            return None
        at, ok, headline, report = (data.get(name) for name in ("at", "ok", "headline", "report"))
        # NaN, too, is no time; and it would be no JSON when it is printed.
        if not isinstance(at, (int, float)) or not 0 <= at <= MAX_TIME_S:
            return None
        if not isinstance(headline, str) or not isinstance(report, dict):
            return None
        return Event(verb, float(at), ok is True, headline, report)

    def record(self, site: str, account: str, event: Event) -> None:
        """Write an event in the place of the one before.

        Raises:
            OSError: it cannot be written.
        """
        self._write(self._event_file(site, account, event.verb), asdict(event))

    def failed(self, verb: str) -> tuple[str, ...]:
        """Labels of the targets that the verb has failed for, in the order to try them in."""
        data = _read(self._failed_file(verb))
        return tuple(label for label in data if isinstance(label, str)) if isinstance(data, list) else ()

    def failed_is_damaged(self, verb: str) -> bool:
        """Whether the labels cannot be read, which is another thing than none."""
        path = self._failed_file(verb)
        return os.path.lexists(path) and not isinstance(_read(path), list)

    def set_failed(self, verb: str, labels: Iterable[str]) -> None:
        """Write the labels in the place of those before.

        Raises:
            OSError: they cannot be written.
        """
        self._write(self._failed_file(verb), list(labels))

    def _event_file(self, site: str, account: str, verb: str) -> Path:
        return self._folder / _safe(site) / f"{_safe(account)}.{verb}.json"

    def _failed_file(self, verb: str) -> Path:
        return self._state_dir / "failed" / f"{verb}.json"

    def _write(self, path: Path, value: Any) -> None:
        make_folder(path.parent, self._state_dir)
        write_file(path, json.dumps(value, default=str, sort_keys=True).encode(), self._state_dir)


def _safe(name: str) -> str:
    return _UNSAFE.sub("_", name)


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return json.loads(stream.read(MAX_EVENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
