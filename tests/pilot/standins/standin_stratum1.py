#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stand-in for a CVMFS stratum 1: serves /cvmfs/<repository>/.cvmfspublished, with the form and digest of a real one.

Usage: standin_stratum1.py [ADDRESS:]PORT REPOSITORY... [FOLDER]. With FOLDER, an absolute path, it serves
/cvmfs/<repository>/data/image too: FOLDER/<repository>.squashfs, all of a repository for standin_cvmfs2. It says
`ready PORT` and then one line for each request. The signature behind the digest is random bytes, as no key is here.
Alone in its file, so that it runs on any host.
Source: cvmfs/cvmfs manifest.cc (Manifest::ExportString), signature.cc (VerifyLetter).
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Optional

MAX_AGE_S = 61
"""What real stratum 1 servers let proxies keep it for."""

EVERYWHERE = "0.0.0.0"  # noqa: S104 # hosts of the lab are asked from others

_PATH = re.compile(r"/cvmfs/([a-z0-9.-]+)/(\.cvmfspublished|data/image)")
_SIGNATURE = os.urandom(256)


def manifest(repository: str, published: Optional[int] = None) -> bytes:
    """A `.cvmfspublished` of that repository; `published` in seconds since 1970, now when left out."""
    when = int(time.time()) if published is None else published
    digest = hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
    lines = {
        **{"C": digest, "B": "23552", "R": hashlib.md5(b"", usedforsecurity=False).hexdigest(), "D": "240", "S": "42"},
        **{"G": "no", "A": "no", "N": repository, "X": digest, "H": digest, "T": str(when)},
    }
    text = "".join(f"{key}{value}\n" for key, value in lines.items()).encode()
    return text + b"--\n" + hashlib.sha1(text, usedforsecurity=False).hexdigest().encode() + b"\n" + _SIGNATURE


class Server(http.server.ThreadingHTTPServer):
    """The stratum 1 on `address`; `requests` holds the paths asked, in order."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        repositories: Collection[str],
        log: bool = False,
        folder: Optional[Path] = None,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.repositories = repositories
        self.folder = folder
        self.log = log
        self.requests: list[str] = []
        self.lock = threading.Lock()
        super().__init__(address, _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version = "standin-stratum1"
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append(self.path)
        found = _PATH.fullmatch(self.path)
        body = self._body(found[1], found[2]) if found and found[1] in self.server.repositories else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/x-cvmfs")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", f"max-age={MAX_AGE_S}")
        self.end_headers()
        self.wfile.write(body)

    def _body(self, repository: str, name: str) -> bytes:
        if name == ".cvmfspublished":
            return manifest(repository)
        image = self.server.folder / f"{repository}.squashfs" if self.server.folder else None
        return image.read_bytes() if image is not None and image.exists() else b""

    def log_message(self, format: str, *args: object) -> None:
        if self.server.log:
            print(self.address_string(), format % args, flush=True)


def main(words: list[str]) -> Optional[str]:
    """Serve until killed; an error text when the words are wrong."""
    if len(words) < 2 or not words[0].rpartition(":")[2].isdecimal():
        return "usage: standin_stratum1.py [ADDRESS:]PORT REPOSITORY... [FOLDER]"
    address, _, port = words[0].rpartition(":")
    folder = Path(words[-1]) if words[-1].startswith("/") else None
    where = (address.strip("[]") or EVERYWHERE, int(port))
    with Server(where, words[1:], log=True, folder=folder) as server:
        print("ready", server.server_port, flush=True)
        server.serve_forever()
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
