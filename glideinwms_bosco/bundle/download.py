# SPDX-License-Identifier: Apache-2.0
"""Fetch a release tarball over https into an unnamed private file, with a deadline and a size limit."""

from __future__ import annotations

import http.client
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Optional

from glideinwms_bosco.bundle.tarball import CHUNK_BYTES, MAX_TARBALL_BYTES, open_local
from glideinwms_bosco.errors import SourceError

DEADLINE_S = 900.0
STALL_S = 60.0


class HttpsOnlyRedirect(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only when it stays within https."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Optional[urllib.request.Request]:
        """See HTTPRedirectHandler.

        Raises:
            SourceError: the new address is not https.
        """
        if urllib.parse.urlsplit(newurl).scheme != "https":
            raise SourceError(f"{req.full_url} redirects away from https", "use the address of the file itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_tarball(place: str) -> IO[bytes]:
    """Open a tarball by path, file URL or https URL; the caller closes the stream, which can seek.

    Raises:
        SourceError: another scheme, no such file, a failed, too long or too large download.
    """
    url = urllib.parse.urlsplit(place)
    if url.scheme == "" and place.startswith("/"):
        return open_local(place)
    if url.scheme == "file":
        if url.netloc not in ("", "localhost"):
            raise SourceError(f"{place} is a file of another host", "use an https URL")
        return open_local(urllib.parse.unquote(url.path))
    if url.scheme != "https":
        raise SourceError(f"scheme of {place} is not allowed", "use https or file")
    opener = urllib.request.build_opener(HttpsOnlyRedirect())
    try:
        with opener.open(place, timeout=STALL_S) as answer:
            return save(answer, place)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise SourceError(f"cannot fetch {place}: {error}", "check the address and the factory's network") from error


def save(answer: IO[bytes], place: str) -> IO[bytes]:
    """Copy an answer to an unnamed temporary file and rewind it.

    Raises:
        SourceError: more than MAX_TARBALL_BYTES, or not complete after DEADLINE_S.
    """
    end = time.monotonic() + DEADLINE_S
    target = tempfile.TemporaryFile()  # noqa: SIM115  # handed to the caller
    size = 0
    try:
        for chunk in iter(lambda: answer.read(CHUNK_BYTES), b""):
            size += len(chunk)
            if size > MAX_TARBALL_BYTES:
                raise SourceError(f"{place} is larger than {MAX_TARBALL_BYTES} bytes", "this is no HTCondor release")
            if time.monotonic() > end:
                raise SourceError(f"{place} was not complete after {DEADLINE_S:.0f} s", "download it by hand")
            target.write(chunk)
    except BaseException:
        target.close()
        raise
    target.seek(0)
    return target
