# SPDX-License-Identifier: Apache-2.0
"""What many nodes ask of one web proxy at the same moment, from one node and without the cost of their scripts.

`python3 -m tests.lab.many_requests COUNT PROXY URL...` has COUNT clients ask for each URL in turn, each on a connection
of its own, as fast as the proxy answers.
"""

from __future__ import annotations

import http.client
import sys
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

ANSWER_S = 30.0


def ask(proxy: str, urls: Sequence[str]) -> None:
    """Ask for one after the other on one connection.

    Raises:
        OSError, http.client.HTTPException: the proxy does not answer.
    """
    place = urlsplit(proxy)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ANSWER_S)
    try:
        for url in urls:
            connection.request("GET", url)
            connection.getresponse().read()
    finally:
        connection.close()


def ask_at_once(count: int, proxy: str, urls: Sequence[str]) -> None:
    """Be that many clients, and wait for the last."""
    ready = threading.Barrier(count)

    def client() -> None:
        ready.wait()
        ask(proxy, urls)

    clients = [threading.Thread(target=client) for _ in range(count)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()


if __name__ == "__main__":
    ask_at_once(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
