#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stand-in for a storage element: takes and gives files over HTTPS from clients that show a certificate of its CA.

Usage: standin_store.py [ADDRESS:]PORT CREDENTIAL CA FOLDER. It says `ready PORT` and then one line for each request,
with the client's common name. PUT /NAME writes FOLDER/NAME. Alone in its file, so that it runs on any host.
"""

from __future__ import annotations

import http.server
import re
import ssl
import sys
from pathlib import Path
from typing import Optional

MAX_BYTES = 16 << 20
EVERYWHERE = "0.0.0.0"  # noqa: S104 # hosts of the lab are asked from others

_PATH = re.compile(r"/([A-Za-z0-9_.-]*[A-Za-z0-9_-])")


class Server(http.server.ThreadingHTTPServer):
    """The store on `address`, with its files in `folder`."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], credential: Path, authority: Path, folder: Path) -> None:
        self.folder = folder
        super().__init__(address, _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credential)
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version = "standin-store"
    server: Server
    connection: ssl.SSLSocket

    def do_PUT(self) -> None:
        found, size = _PATH.fullmatch(self.path), self.headers.get("Content-Length", "")
        if found is None or not size.isdecimal() or int(size) > MAX_BYTES:
            self.send_error(400)
            return
        (self.server.folder / found[1]).write_bytes(self.rfile.read(int(size)))
        self._answer(201, b"")

    def do_GET(self) -> None:
        found = _PATH.fullmatch(self.path)
        file = self.server.folder / found[1] if found else None
        if file is None or not file.is_file():
            self.send_error(404)
            return
        self._answer(200, file.read_bytes())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        groups = (self.connection.getpeercert() or {}).get("subject", ())
        names = [pair[1] for group in groups for pair in group if pair[0] == "commonName"]
        print(f"CN={','.join(map(str, names))}", self.address_string(), format % args, flush=True)


def main(words: list[str]) -> Optional[str]:
    """Serve until killed; an error text when the words are wrong."""
    if len(words) != 4 or not words[0].rpartition(":")[2].isdecimal():
        return "usage: standin_store.py [ADDRESS:]PORT CREDENTIAL CA FOLDER"
    address, _, port = words[0].rpartition(":")
    credential, authority, folder = map(Path, words[1:])
    with Server((address or EVERYWHERE, int(port)), credential, authority, folder) as server:
        print("ready", server.server_port, flush=True)
        server.serve_forever()
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
