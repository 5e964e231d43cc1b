# SPDX-License-Identifier: Apache-2.0
"""Stand-in for reconfig and the factory's web server: one rendered entry as an archive for standin_glidein.sh.

Reads `<attr>` and `<file>` elements as reconfig does (glideinWMS 3.10 creation/lib/cgWParamDict.py) and keeps their
order. Runs on the factory host as `python3 - XML ENTRY ARCHIVE CONTRACT [PERIOD_S]`, and prints what the factory
submits the entry's pilots with, as JSON. CONTRACT holds the functions that scripts call; with PERIOD_S periodic scripts
run that often, because tests wait for them.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from lxml import etree

_FUNCTIONS = ("add_config_line.source", "error_gen.sh")
_SUBMITTED = ("gridtype", "gatekeeper", "bosco_dir", "work_dir")
_KINDS = ("executable", "wrapper", "untar")
_TYPES = {"string": "S", "int": "I", "expr": "C"}


def pack(entry: etree._Element, archive: Path, contract: Path, period_s: Optional[str] = None) -> None:
    """Write the archive: `attrs.lst`, `vars.lst`, `files.lst`, the files, and the functions that scripts call."""
    attrs = [f"{attr.get('name')} {attr.get('value')}\n" for attr in entry.iterfind("attrs/attr")]
    lines = []
    with tarfile.open(archive, "w:gz") as tar:
        for file in entry.iterfind("files/file"):
            source = Path(file.get("absfname", ""))
            name = file.get("relfname", source.name)
            kinds = [kind for kind in _KINDS if file.get(kind) == "True"]
            if len(kinds) != 1:
                raise ValueError(f"{name}: reconfig wants one kind of file, not {kinds}")
            options = file.find("untar_options")
            where = (options.get("dir"), options.get("absdir_outattr")) if options is not None else ("-", "-")
            period = file.get("period", "0")
            period = period_s if period_s and period != "0" else period
            lines.append(" ".join((name, kinds[0], period, *map(str, where))) + "\n")
            _add(tar, name, source.read_bytes(), 0o755 if kinds[0] == "executable" else 0o644)
        for name in _FUNCTIONS:
            _add(tar, name, (contract / name).read_bytes(), 0o755)
        _add(tar, "attrs.lst", "".join(attrs).encode(), 0o644)
        _add(tar, "vars.lst", "".join(_variables(entry)).encode(), 0o644)
        _add(tar, "files.lst", "".join(lines).encode(), 0o644)


def _variables(entry: etree._Element) -> Iterator[str]:
    """Lines for condor_vars.lst: of attributes that are for HTCondor's configuration or the jobs' environment."""
    for attr in entry.iterfind("attrs/attr"):
        exported, user = (attr.get(name) == "True" for name in ("glidein_publish", "job_publish"))
        if exported or user:
            words = (_TYPES[attr.get("type", "string")], "-", "+", "N", "Y" if exported else "N", "+" if user else "-")
            yield " ".join((str(attr.get("name")), *words)) + "\n"


def submission(entry: etree._Element) -> dict[str, object]:
    """What the entry's pilots are submitted with."""
    attrs = {attr.get("name"): attr.get("value") for attr in entry.iterfind("config/submit/submit_attrs/submit_attr")}
    return {"submit_attrs": attrs, **{name: entry.get(name) for name in _SUBMITTED}}


def main(xml: str, name: str, archive: str, contract: str, period_s: Optional[str] = None) -> None:
    """Pack the entry of that name.

    Raises:
        KeyError: the file has no such entry.
    """
    for entry in etree.parse(xml).iter("entry"):
        if entry.get("name") == name:
            pack(entry, Path(archive), Path(contract), period_s)
            print(json.dumps(submission(entry)))
            return
    raise KeyError(name)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    main(*sys.argv[1:6])
