# SPDX-License-Identifier: Apache-2.0
"""A factory's stage area of one entry, served over HTTP, for the real glidein_startup.sh; needs GLIDEINWMS_SRC.

It holds glideinWMS's own files as far as validation scripts need them, with their lists and signatures. Names and line
formats: glideinWMS 3.10 creation/web_base/glidein_startup.sh (fetch_file, check_file_signature).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.pilot.harness import GLIDEINWMS_SRC

ENTRY = "Test_entry"
LAST_SCRIPT = "last_script.sh"
DESCRIPTION = "description.cfg"
_WEB_BASE = Path(GLIDEINWMS_SRC) / "creation" / "web_base"
_PAYLOAD = ("add_config_line.source", "get_id_selectors.source", "logging_utils.source", "b64uuencode.source")
_PAYLOAD_LAST = "glidein_paths.source"
_PERIODIC_PREFIX = "GLIDEIN_PS_"


@dataclass(frozen=True)
class Item:
    """One line of a file list: what the pilot does with a file."""

    name: str
    content: bytes
    kind: str = "regular"
    period_s: int = 0
    config_key: str = "FALSE"

    def line(self) -> str:
        """As fetch_file reads it."""
        return f"{self.name} {self.name} {self.kind} {self.period_s} {_PERIODIC_PREFIX} TRUE {self.config_key}\n"


@dataclass
class StageArea:
    """The folder that is served, and the words of glidein_startup.sh that name it."""

    folder: Path
    _signatures: dict[str, str] = field(default_factory=dict)

    def write(self, entry_files: Sequence[Item], attributes: Mapping[str, str], last_script: str) -> None:
        """Fill it: `entry_files` in order after the entry's attributes."""
        own = [Item(name, _own(name), "exec" if name == "setup_script.sh" else "regular") for name in _MAIN]
        variables = Item("condor_vars.lst", b"", config_key="CONDOR_VARS_FILE")
        wrapper = Item("script_wrapper.sh", _own("script_wrapper.sh"), "exec")
        last = Item(LAST_SCRIPT, last_script.encode(), "exec")
        # The last script is brought early and run last. Source: creation/lib/cgWParamDict.py, file_list_scripts.
        self._part("main", self.folder, {"file_list": [*own, variables, last], "after_file_list": [wrapper]})
        constants = "".join(f"{key} \t{value}\n" for key, value in attributes.items()).encode()
        head = [
            Item("constants.cfg", constants, config_key="CONSTS_FILE"),
            Item("untar.cfg", _untar_lines(entry_files), config_key="UNTAR_CFG_FILE"),
            Item("cat_consts.sh", _own("cat_consts.sh"), "exec"),
        ]
        self._part("entry", self.folder / f"entry_{ENTRY}", {"file_list": [*head, *entry_files]})

    def arguments(self, url: str) -> list[str]:
        """The pilot's command line."""
        named = {
            **{"name": "test", "entry": ENTRY, "factory": "test", "clientname": "test", "web": url},
            **{"sign": self._signatures["main"], "signentry": self._signatures["entry"], "signtype": "sha1"},
            **{"descript": DESCRIPTION, "descriptentry": DESCRIPTION, "dir": ".", "v": "fast"},
        }
        return [word for name, value in named.items() for word in (f"-{name}", value)]

    def _part(self, part: str, folder: Path, lists: Mapping[str, Sequence[Item]]) -> None:
        folder.mkdir(exist_ok=True)
        described = "signature \tsignature.txt\n"
        for name in ("file_list", "precvmfs_file_list", "at_file_list", "after_file_list"):
            items = lists.get(name, ())
            (folder / f"{name}.lst").write_text("".join(item.line() for item in items))
            for item in items:
                (folder / item.name).write_bytes(item.content)
            described += f"{name} \t{name}.lst\n"
        (folder / DESCRIPTION).write_text(f"{described}last_script \t{LAST_SCRIPT}\n")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        text = "".join(f"{_sha1(path.read_bytes())}  {path.name}\n" for path in files)
        (folder / "signature.txt").write_text(text)
        self._signatures[part] = _sha1(text.encode())


_MAIN = ("error_gen.sh", "error_augment.sh", "setup_script.sh")


def startup_script() -> bytes:
    """glidein_startup.sh as create_glidein leaves it: with the files it unpacks behind its last line."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in (*_PAYLOAD, _PAYLOAD_LAST):
            tar.add(_WEB_BASE / name, arcname=name)
    return _own("glidein_startup.sh") + b"exit 0\n#EOF\n" + archive.getvalue()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a port of the loopback; yields its URL."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the pilot says what it could not get."""


def _own(name: str) -> bytes:
    return (_WEB_BASE / name).read_bytes()


def _untar_lines(items: Sequence[Item]) -> bytes:
    return "".join(f"{item.name} \t{item.name.partition('.')[0]}\n" for item in items if item.kind == "untar").encode()


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
