# SPDX-License-Identifier: Apache-2.0
"""One bash script that starts an entry's pilot by hand, the way its batch job would. Pure.

It is by_hand.sh with the pilot's start-up program and arguments filled in. Credentials are files that exist only where
it runs: an argument that is one of `PLACES` becomes the path of one there.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from glideinwms_bosco.errors import PilotError

MAX_STARTUP_BYTES = 4 * 1024 * 1024
MAX_ARGUMENTS = 1000
MAX_ARGUMENT_CHARS = 8192
PLACES = {"@TOKEN@": '"$token"', "@PROXY@": '"$proxy"', "@FOLDER@": '"$work"'}
"""Argument -> what stands for it in the script: the token, the proxy, the folder that the pilot works in."""

_TEMPLATE = "by_hand.sh"
_WIDTH = 100
_FIELD = re.compile(r"@([A-Z0-9_]+)@")
# Of the ASCII range, so that a terminal pastes what was printed.
_ARGUMENT = re.compile(r"[ -~]*")


@dataclass(frozen=True)
class ByHand:
    """What is started.

    Attributes:
        entry: name of the entry.
        bosco_dir: install folder below the home at the site.
        needs_wrapper: the site's pilots cannot do without the job wrapper.
        startup: the program that starts a pilot, glidein_startup.sh.
        arguments: its arguments.
    """

    entry: str
    bosco_dir: str
    needs_wrapper: bool
    startup: bytes
    arguments: tuple[str, ...]


def hand_script(what: ByHand) -> str:
    """The script.

    Raises:
        PilotError: program or arguments are too large, or an argument holds what no terminal pastes.
    """
    if not what.startup or len(what.startup) > MAX_STARTUP_BYTES:
        raise PilotError(f"the start-up program has {len(what.startup)} bytes", f"1 to {MAX_STARTUP_BYTES} are taken")
    # Without a date: same input, same script.
    packed = base64.b64encode(gzip.compress(what.startup, mtime=0)).decode("ascii")
    fields = {
        "ENTRY": shlex.quote(what.entry),
        "BOSCO_DIR": shlex.quote(what.bosco_dir),
        "WRAPPER_NEEDED": "yes" if what.needs_wrapper else "no",
        "STARTUP_SHA256": hashlib.sha256(what.startup).hexdigest(),
        "STARTUP": "\n".join(packed[at : at + _WIDTH] for at in range(0, len(packed), _WIDTH)),
        "ARGUMENTS": _arguments(what.arguments),
    }
    template = resources.files("glideinwms_bosco.pilot").joinpath(_TEMPLATE).read_text("ascii")
    # In one pass: what a value holds is not looked at again.
    return _FIELD.sub(lambda found: fields[found[1]], template)


def _arguments(arguments: Sequence[str]) -> str:
    if len(arguments) > MAX_ARGUMENTS:
        raise PilotError(f"the pilot has {len(arguments)} arguments", f"up to {MAX_ARGUMENTS} are taken")
    for argument in arguments:
        if len(argument) > MAX_ARGUMENT_CHARS or not _ARGUMENT.fullmatch(argument):
            raise PilotError(f"the pilot's argument {argument[:60]!r} is too long or not plain ASCII text")
    return "\n".join(f"        {PLACES.get(argument) or shlex.quote(argument)}" for argument in arguments)
