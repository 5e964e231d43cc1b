# SPDX-License-Identifier: Apache-2.0
"""Write a file whole or not at all. Any room may import this, as it may `errors`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PUBLIC_MODE = 0o644


def write_atomic(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> bool:
    """Put `content` at `path` by rename; its temporary file has the final mode before it holds a byte.

    The temporary name starts with a dot and ends in `.tmp`, so that nothing which reads `*.xml` or `*.tar.gz` from
    the folder meets half a file.

    Args:
        mode: octal permission bits.

    Returns:
        False when the file had this content already and was left alone.

    Raises:
        OSError: nothing has changed.
    """
    if path.is_file() and path.read_bytes() == content:
        return False
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(handle, mode)
            stream.write(content)
            stream.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True
