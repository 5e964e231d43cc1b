#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stand-in for a Frontier launchpad: decodes the query of a request and answers the XML a real servlet answers.

Usage: standin_frontier.py [ADDRESS:]PORT [SERVLET]. It says `ready PORT` and then one line for each request. The only
table is DUAL: `SELECT <number or 'text'>[, ...] FROM DUAL`. Alone in its file, so that it runs on any host.
Source: fermitools/frontier client/fnget.py (request), src/gov/fnal/frontier ResponseFormat.java, BlobTypedEncoder.java,
SQLPlugin.java (answer).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.server
import re
import socket
import struct
import sys
import threading
import zlib
from typing import Optional
from xml.sax.saxutils import quoteattr

VERSION = "3.42"
SERVLET = "FrontierProd"
MAX_AGE_S = 300
MAX_QUERY_BYTES = 65536
EVERYWHERE = "0.0.0.0"  # noqa: S104 # hosts of the lab are asked from others

_REQUEST = re.compile(
    r"/(?P<servlet>[A-Za-z0-9_]+)/Frontier/type=frontier_request:1:DEFAULT"
    r"&encoding=BLOB(?P<zip>zip(?P<level>[0-9]?))?&p1=(?P<query>[A-Za-z0-9._-]+)"
)
_SELECT = re.compile(r"\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+DUAL\s*", re.IGNORECASE | re.DOTALL)
_COLUMN = re.compile(r"\s*(?:(?P<number>[0-9]{1,18})|'(?P<text>[^']*)')\s*")
_END_OF_RECORD = b"\x07"
# fnget.py writes base64 without +, / and =, which a URL would not bear.
_URL_TO_BASE64 = str.maketrans(".-_", "+/=")


class QueryError(Exception):
    """The query cannot be answered; the text goes into the answer."""


def encode_query(sql: str) -> str:
    """The value of p1 for a query."""
    packed = base64.b64encode(zlib.compress(sql.encode(), 9)).decode()
    return packed.translate(str.maketrans("+/=", ".-_"))


def decode_query(p1: str) -> str:
    """The query of a value of p1.

    Raises:
        QueryError: it is no base64, no zip stream, too long or no text.
    """
    try:
        unpacker = zlib.decompressobj()
        sql = unpacker.decompress(base64.b64decode(p1.translate(_URL_TO_BASE64), validate=True), MAX_QUERY_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise QueryError("the query is too long or cut off")
        return sql.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        raise QueryError(f"the query cannot be decoded: {error}") from None


def records(sql: str) -> tuple[bytes, int]:
    """The typed stream that answers a query (names and types, then the rows), and how many rows.

    Raises:
        QueryError: it asks for more than DUAL has.
    """
    select = _SELECT.fullmatch(sql)
    columns = [_COLUMN.fullmatch(column) for column in select["columns"].split(",")] if select else [None]
    head, row = b"", b""
    for column in columns:
        if column is None:
            raise QueryError("ORA-00942: table or view does not exist")
        text = column["number"] or column["text"]
        head += _string(text if column["number"] else f"'{text}'")
        head += _string("NUMBER" if column["number"] else "CHAR")
        row += _string(text)
    return head + _END_OF_RECORD + row + _END_OF_RECORD, 1


def answer(path: str, servlet: str = SERVLET) -> tuple[int, bytes]:
    """Status and body for a request's path."""
    request = _REQUEST.fullmatch(path)
    if request is None or request["servlet"] != servlet:
        return 404, b"<html><body>404 no such servlet</body></html>\n"
    try:
        stream, rows = records(decode_query(request["query"]))
    except QueryError as error:
        return 200, _document(request["zip"] or "", b"", f'error="1" message={quoteattr(str(error))} full_size="0"')
    packed = zlib.compress(stream, int(request["level"] or 5)) if request["zip"] else stream
    digest = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    quality = f'error="0" md5="{digest}" records="{rows}" full_size="{len(stream)}"'
    return 200, _document(request["zip"] or "", packed, quality)


def _string(text: str) -> bytes:
    return b"\x06" + struct.pack(">i", len(text)) + text.encode("latin-1", "replace")


def _document(coding: str, data: bytes, quality: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="US-ASCII"?>\n'
        '<!DOCTYPE frontier SYSTEM "http://frontier.fnal.gov/frontier.dtd">\n'
        f'<frontier version="{VERSION}" xmlversion="1.0">\n <transaction payloads="1">\n'
        f'  <payload type="frontier_request" version="1" encoding="BLOB{coding}">\n'
        f"   <data>{base64.b64encode(data).decode()}</data>\n   <quality {quality}/>\n"
        "  </payload>\n </transaction>\n</frontier>\n"
    ).encode("ascii", "replace")


class Server(http.server.ThreadingHTTPServer):
    """The launchpad on `address`; `requests` holds the paths asked, in order."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], servlet: str = SERVLET, log: bool = False) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.servlet = servlet
        self.log = log
        self.requests: list[str] = []
        self.lock = threading.Lock()
        super().__init__(address, _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server_version = "standin-frontier"
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append(self.path)
        status, body = answer(self.path, self.server.servlet)
        self.send_response(status)
        self.send_header("Content-Type", "text/xml" if status == 200 else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", f"max-age={MAX_AGE_S}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        if self.server.log:
            print(self.address_string(), format % args, flush=True)


def main(words: list[str]) -> Optional[str]:
    """Serve until killed; an error text when the words are wrong."""
    if not 1 <= len(words) <= 2 or not words[0].rpartition(":")[2].isdecimal():
        return "usage: standin_frontier.py [ADDRESS:]PORT [SERVLET]"
    address, _, port = words[0].rpartition(":")
    servlet = words[1] if len(words) == 2 else SERVLET
    with Server((address.strip("[]") or EVERYWHERE, int(port)), servlet, log=True) as server:
        print("ready", server.server_port, flush=True)
        server.serve_forever()
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
