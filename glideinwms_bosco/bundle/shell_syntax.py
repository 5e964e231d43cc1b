# SPDX-License-Identifier: Apache-2.0
"""Have a shell parse a script without running it, as `sh -n` does: the error comes at a check, not with a pilot."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.bundle.layout import is_sourced

SYNTAX_TIMEOUT_S = 10

_SHEBANG = re.compile(rb"#![ \t]*/\S*?(?:/env[ \t]+)?([A-Za-z0-9_]+)(?=[ \t\r\n]|$)")
# dash: `sh: 3: Syntax error: ...`; bash: `bash: line 3: syntax error ...`.
_MESSAGE = re.compile(r"[^:]*: (?:line )?([0-9]{1,7}): (.*)")
_SHELLS = {b"sh": "sh", b"dash": "sh", b"bash": "bash", b"ksh": "bash"}


@dataclass(frozen=True)
class SyntaxFinding:
    """What a shell says of a script: 1-based line, text, and the shell."""

    line: int
    text: str
    shell: str


def syntax_error(path: str, content: bytes) -> Optional[SyntaxFinding]:
    """Find the first syntax error of a shell script; None for a good one and for anything else.

    Args:
        path: in the bundle; says which shell reads a file that has no `#!` line, or is sourced.
        content: the script.
    """
    match = _SHEBANG.match(content)
    if path.endswith(".sh") and is_sourced(path):
        shell: Optional[str] = "bash"  # blahp's submit scripts source it, and they are run by bash
    elif match is not None:
        shell = _SHELLS.get(match.group(1))
    else:
        shell = "sh" if path.endswith(".sh") else None
    return _parse(shell, content) if shell is not None else None


@functools.lru_cache(maxsize=256)
def _parse(shell: str, content: bytes) -> Optional[SyntaxFinding]:
    # No variable of ours reaches it: bash would run the file that BASH_ENV names.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [shell, "-n"],
            input=content,
            capture_output=True,
            timeout=SYNTAX_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        return None  # a host without bash can still build bundles
    except (OSError, subprocess.TimeoutExpired) as err:
        return SyntaxFinding(1, f"cannot be parsed: {err}", shell)
    if done.returncode == 0:
        return None
    first = (done.stderr.decode("utf-8", "replace").splitlines() or ["cannot be parsed"])[0]
    match = _MESSAGE.fullmatch(first)
    return SyntaxFinding(int(match.group(1)), match.group(2), shell) if match else SyntaxFinding(1, first, shell)
