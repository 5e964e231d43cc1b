# SPDX-License-Identifier: Apache-2.0
"""Helper of a squid in the lab: says yes to every request, after as many seconds as a file says.

Squid asks it (external_acl_type with concurrency) by a line that begins with a number and waits for the line that
begins with the same one: `python3 -m tests.lab.squid_delay FILE`. The file is read for each request, so a squid becomes
slow without a new configuration, for what it has in its cache too.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def answer(file: Path) -> None:
    """Answer lines of standard input until it ends."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async for line in lines:
        loop.call_later(float(file.read_text()), _allow, line.split()[0].decode())


def _allow(number: str) -> None:
    print(number, "OK", flush=True)


if __name__ == "__main__":
    asyncio.run(answer(Path(sys.argv[1])))
