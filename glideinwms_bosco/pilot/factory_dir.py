# SPDX-License-Identifier: Apache-2.0
"""The arguments a factory gives to an entry's pilots, from its work folder and from what a frontend advertises.

Source: glideinWMS 3.10 factory/glideFactoryLib.py, get_submit_environment and escapeParam, and
factory/tools/manual_glidein_submit.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from glideinwms_bosco.errors import PilotError

DEFAULT_FACTORY_DIR = Path("/var/lib/gwms-factory/work-dir")
FACTORY_DIR_VARIABLE = "GLIDEIN_FACTORY_DIR"
STARTUP = "glidein_startup.sh"
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_ADS = 10_000

_SIGN_TYPE = "sha1"
_PARAM = "GlideinParam"
# What glidein_startup.sh reads back. Source: glideFactoryLib.py, escape_table.
_ESCAPES = {
    **{".": "dot", ",": "comma", "&": "amp", "\\": "backslash", "|": "pipe", "`": "fork", '"': "quot"},
    **{"'": "singquot", "=": "eq", "+": "plus", "-": "minus", "<": "lt", ">": "gt", "(": "open", ")": "close"},
    **{"{": "gopen", "}": "gclose", "[": "sopen", "]": "sclose", "#": "comment", "$": "dollar", "*": "star"},
    **{"?": "question", "!": "not", "~": "tilde", ":": "colon", ";": "semicolon", " ": "nbsp"},
}
# Option of glidein_startup.sh -> attribute of the frontend's request.
_CLIENT_WEB = {
    "-clientweb": "WebURL",
    "-clientsign": "WebDescriptSign",
    "-clientsigntype": "WebSignType",
    "-clientdescript": "WebDescriptFile",
    "-clientgroup": "GroupName",
    "-clientwebgroup": "WebGroupURL",
    "-clientsigngroup": "WebGroupDescriptSign",
    "-clientdescriptgroup": "WebGroupDescriptFile",
}
_WORD = re.compile(r"[!-~]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AD_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*) = (.*)")
_AD_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def read_startup(folder: Path) -> bytes:
    """The factory's glidein_startup.sh.

    Raises:
        PilotError: it cannot be read.
    """
    return _read(folder / STARTUP)


def pilot_arguments(folder: Path, entry: str, request: Mapping[str, str]) -> tuple[str, ...]:
    """Arguments of glidein_startup.sh for a pilot that no schedd has submitted.

    Args:
        folder: the factory's work folder.
        entry: name of an entry in it.
        request: a frontend's request for that entry, attribute -> value, as `read_requests` gives it.

    Raises:
        PilotError: a file cannot be read or lacks a value, or the request lacks one.
    """
    if not _NAME.fullmatch(entry):
        raise PilotError(f"{entry[:80]!r} is no name of an entry")
    glidein = _table(folder / "glidein.descript")
    job = _table(folder / f"entry_{entry}" / "job.descript")
    main, own = _signature(folder, "main"), _signature(folder, f"entry_{entry}")
    client = _need(request, "ClientName", "the frontend's request")
    options = {
        "-v": _need(job, "Verbosity", "job.descript"),
        "-name": _need(glidein, "GlideinName", "glidein.descript"),
        "-entry": entry,
        "-clientname": client,
        # As upstream's local_start.sh has it: no schedd knows this pilot.
        "-schedd": "local",
        "-proxy": job.get("ProxyURL") or "None",
        "-factory": _need(glidein, "FactoryName", "glidein.descript"),
        "-web": _need(glidein, "WebURL", "glidein.descript"),
        "-sign": main[0],
        "-signentry": own[0],
        "-signtype": _SIGN_TYPE,
        "-descript": main[1],
        "-descriptentry": own[1],
        "-dir": _need(job, "StartupDir", "job.descript"),
        "-param_GLIDEIN_Client": client,
        "-submitcredid": "by-hand",
        "-slotslayout": _need(job, "SubmitSlotsLayout", "job.descript"),
        **{option: _need(request, name, "the frontend's request") for option, name in _CLIENT_WEB.items()},
        **{f"-param_{name}": _escape(value) for name, value in _parameters(folder, entry, request).items()},
        "-cluster": "0",
        "-subcluster": "0",
    }
    for option, value in options.items():
        if not _WORD.fullmatch(value):
            raise PilotError(f"{option} of entry {entry} is {value[:60]!r}: empty, or not one word of plain text")
    return tuple(word for pair in options.items() for word in pair)


def _parameters(folder: Path, entry: str, request: Mapping[str, str]) -> dict[str, str]:
    """What the frontend asks for, over what the factory's entry has. Empty ones are left out, as the factory does."""
    found: dict[str, str] = {}
    for path in (folder / "params.cfg", folder / f"entry_{entry}" / "params.cfg"):
        if path.exists():
            found.update({name: _literal(path, name, text) for name, text in _table(path).items()})
    found.update({name[len(_PARAM) :]: value for name, value in request.items() if name.startswith(_PARAM)})
    for name in found:
        if not _NAME.fullmatch(name):
            raise PilotError(f"the parameter {name[:60]!r} has no name that glidein_startup.sh takes")
    return {name: value for name, value in sorted(found.items()) if value.strip()}


def _literal(path: Path, name: str, text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise PilotError(f"{path}: {name} is not written as reconfig writes it") from None


def _escape(value: str) -> str:
    return "".join(f".{_ESCAPES[char]}," if char in _ESCAPES else char for char in value)


def _signature(folder: Path, key: str) -> tuple[str, str]:
    """Signature and description file of one part of the factory."""
    path = folder / "signatures.sha1"
    for line in _lines(path):
        words = line.split()
        if len(words) == 3 and words[2] == key:
            return words[0], words[1]
    raise PilotError(f"{path}: has no line for {key}", "has reconfig been run since the entry was added?")


def _need(table: Mapping[str, str], name: str, where: str) -> str:
    if name not in table:
        raise PilotError(f"{where} has no {name}")
    return table[name]


def _table(path: Path) -> dict[str, str]:
    """Lines `NAME VALUE`."""
    rows = (line.split(None, 1) for line in _lines(path))
    return {row[0]: row[1].strip() if len(row) == 2 else "" for row in rows}


def _lines(path: Path) -> list[str]:
    text = _read(path).decode("utf-8", "replace")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as err:
        hint = f"name the factory's work folder: --factory-dir, or {FACTORY_DIR_VARIABLE}"
        raise PilotError(f"{path}: cannot be read: {err.strerror}", hint) from None
    if len(content) > MAX_FILE_BYTES:
        raise PilotError(f"{path}: is longer than {MAX_FILE_BYTES} bytes")
    return content


def read_requests(text: str) -> list[dict[str, str]]:
    """ClassAds as `condor_status -any -long` prints them: attribute -> value, strings without their quotes.

    Raises:
        PilotError: there are too many.
    """
    ads: list[dict[str, str]] = [{}]
    for line in text.splitlines():
        found = _AD_LINE.fullmatch(line.strip())
        if found:
            ads[-1][found[1]] = _ad_value(found[2])
        elif not line.strip() and ads[-1]:
            ads.append({})
        if len(ads) > MAX_ADS:
            raise PilotError(f"more than {MAX_ADS} ClassAds", "ask the collector for those of the frontend only")
    return [ad for ad in ads if ad]


def _ad_value(text: str) -> str:
    found = _AD_STRING.fullmatch(text)
    if found:
        return re.sub(r"\\(.)", r"\1", found[1])
    # As the factory, which reads them with Python, writes them again.
    return {"true": "True", "false": "False"}.get(text, text)


def choose_request(ads: Sequence[Mapping[str, str]], entry: str, frontend: str, group: str) -> Mapping[str, str]:
    """The one request for an entry, of a frontend and its group where they are named (empty: any).

    Raises:
        PilotError: there is none, or more than one.
    """
    ours = [ad for ad in ads if ad.get("MyType") == "glideclient" and ad.get("ReqName", "").split("@")[0] == entry]
    fit = [ad for ad in ours if _fits(ad, frontend, group)]
    names = ", ".join(sorted({ad.get("ClientName", "?")[:80] for ad in ours})[:20]) or "none"
    if not fit:
        raise PilotError(f"no such request of a frontend for entry {entry}", f"requests of: {names}")
    if len({ad.get("ClientName") for ad in fit}) > 1:
        raise PilotError(f"several frontends ask for entry {entry}", f"choose with --frontend and --group: {names}")
    return fit[0]


def _fits(ad: Mapping[str, str], frontend: str, group: str) -> bool:
    names = (ad.get("FrontendName", ""), ad.get("AuthenticatedIdentity", "").split("@")[0])
    return (not frontend or frontend in names) and (not group or ad.get("GroupName") == group)
