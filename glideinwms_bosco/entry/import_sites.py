# SPDX-License-Identifier: Apache-2.0
"""Turn the entries of a factory configuration into site files: one per login host, each proved by rendering it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from lxml import etree

from glideinwms_bosco.batch import BATCH_SYSTEMS
from glideinwms_bosco.entry.configuration import elements as list_elements
from glideinwms_bosco.entry.import_fields import ImportedEntry, Kept, import_entry
from glideinwms_bosco.entry.import_left import Left, Line, left_behind, source_line
from glideinwms_bosco.entry.import_request import whole
from glideinwms_bosco.entry.import_xml import normalised
from glideinwms_bosco.entry.import_yaml import site_yaml
from glideinwms_bosco.entry.meaning import Meaning, entry_meanings
from glideinwms_bosco.entry.render import AUTH_METHOD, render_site
from glideinwms_bosco.entry.submit import gatekeeper, gridtype, submit_problems
from glideinwms_bosco.errors import EntryError, Problem, SiteFileError, UsageError
from glideinwms_bosco.site.crosscheck import check_site
from glideinwms_bosco.site.crosscheck_raw import check_raw
from glideinwms_bosco.site.load import describe_site
from glideinwms_bosco.site.model import DEFAULT_SSH_PORT, Account, Batch, Install, Login, SiteDescription
from glideinwms_bosco.site.schema import site_schema

# Source of the default: glideinWMS 3.10 creation/lib/factory_defaults.xml, <entry>.
_DEFAULT_TRUST_DOMAIN = "grid"
_PLACEHOLDER_SYSTEM = "condor"
_NAME_CHARACTERS = 100
_LEFT_NAMED = 6
"""Things left behind that the top of a file names."""
_SITE_ATTRS = (
    ("cms_site", "GLIDEIN_CMSSite"),
    ("country", "GLIDEIN_Country"),
    ("region", "GLIDEIN_Region"),
    ("supported_vos", "GLIDEIN_Supported_VOs"),
)


@dataclass(frozen=True)
class Way:
    """What tells site files apart. `host` None: no login host is known, `label` stands for it."""

    label: str
    system: str
    host: Optional[str] = None
    port: int = DEFAULT_SSH_PORT
    bosco_dir: Optional[str] = None


@dataclass(frozen=True)
class ImportedSite:
    """One site file: its short name and text, its entries, what was kept raw, and what `site check` will refuse.

    `left` is what was not imported from outside the entries, or from these.
    """

    short_name: str
    text: str
    entries: tuple[str, ...]
    kept: tuple[Kept, ...]
    to_do: tuple[Problem, ...]
    left: tuple[Left, ...] = ()


def import_sites(
    root: etree._Element, source: str, names: Sequence[str] = (), line: Line = source_line
) -> tuple[ImportedSite, ...]:
    """Turn entries into site files.

    Args:
        root: the `<glidein>` element of a file.
        source: name of that file, for comments and messages.
        names: the entries wanted; all when empty.
        line: gives the line of an element.

    Raises:
        UsageError: an entry that is not there.
        EntryError: no entries, two of one name, a name that no site file can hold, or too many entries for one file.
    """
    entries = [normalised(entry) for entry in _entries(root, source, names, line)]
    all_left = left_behind(root, names, line)
    groups: dict[Way, list[etree._Element]] = {}
    users: dict[Way, list[str]] = {}
    for element in entries:
        way, user = _way(element)
        groups.setdefault(way, []).append(element)
        users.setdefault(way, []).append(user)
    meanings = entry_meanings(root)
    taken: set[str] = set()
    sites = []
    for way, elements in groups.items():
        short_name = _short_name(way, taken)
        data, kept = _site(way, elements, users[way], short_name)
        wanted = {name: meanings[name] for name in (str(element.get("name")) for element in elements)}
        left = tuple(item for item in all_left if item.entry is None or item.entry in wanted)
        to_do = _prove(site_yaml(data, ()), short_name, wanted)
        text = site_yaml(data, tuple(_comments(way, source, tuple(wanted), kept, left, to_do)))
        sites.append(ImportedSite(short_name, text, tuple(wanted), kept, to_do, left))
    return tuple(sites)


def _entries(root: etree._Element, source: str, names: Sequence[str], line: Line) -> list[etree._Element]:
    if root.tag != "glidein":
        raise EntryError(f"{source}: the root element is <{root.tag}>, not <glidein>", "name a factory configuration")
    found: dict[str, list[etree._Element]] = {}
    for entry in list_elements(root, "entries", "entry"):
        found.setdefault(entry.get("name") or "", []).append(entry)
    if not found:
        if root.find("./entries/entry") is not None:
            message = f"{source}: its last <entries> has no <entry>, and glideinWMS reads no other"
            raise EntryError(message, "put all entries into one <entries>")
        raise EntryError(f"{source}: has no <entry>", "name a factory configuration, or a file of its config.d")
    unknown = [name for name in names if name not in found]
    if unknown:
        known = ", ".join(list(found)[:10])
        raise UsageError(f"{source}: has no entry {unknown[0]!r}", f"it has {len(found)}: {known}")
    pattern = site_schema()["definitions"]["entryName"]["pattern"]
    wanted = {name: found[name] for name in names} if names else found
    for name, (entry, *twins) in wanted.items():
        if not re.fullmatch(pattern, name) or len(name) > 128:
            message = f"{source}:{line(entry)}: the entry name {name[:80]!r} cannot stand in a site file"
            raise EntryError(message, "rename it, or name the other entries to import")
        if twins:
            message = f"{source}:{line(entry)}: the entry {name!r} stands there again in line {line(twins[0])}"
            raise EntryError(message, "reconfig mixes the two; keep one, or name the other entries to import")
    return [entry for (entry,) in wanted.values()]


def _fits(definition: str, text: str) -> bool:
    schema: Mapping[str, Any] = site_schema()["definitions"][definition]
    return bool(re.fullmatch(schema["pattern"], text)) and len(text) <= schema["maxLength"]


def _way(element: etree._Element) -> tuple[Way, str]:
    """Where an entry submits to, and as which user (empty: not known)."""
    kind, _, system = (element.get("gridtype") or "").partition(" ")
    known = kind == "batch" and system in BATCH_SYSTEMS
    address = element.get("gatekeeper") or ""
    user, _, place = address.rpartition("@")
    host, colon, port_text = place.partition(":")
    port = whole(port_text) if colon else DEFAULT_SSH_PORT
    if known and _fits("user", user) and _fits("host", host) and port is not None and 0 < port < 1 << 16:
        folder = element.get("bosco_dir")
        schema = site_schema()["properties"]["install"]["properties"]["bosco_dir"]
        usable = folder is not None and re.fullmatch(schema["pattern"], folder) and len(folder) <= schema["maxLength"]
        return Way(host, system, host, port, folder if usable else None), user
    label = re.sub(r"[^A-Za-z0-9_.-]+", "_", re.split(r"[\s:/]", place.strip())[0]).lstrip(".-")
    return Way(label or str(element.get("name")), system if known else _PLACEHOLDER_SYSTEM), ""


def _short_name(way: Way, taken: set[str]) -> str:
    base = way.label[:_NAME_CHARACTERS]
    candidates = [base, f"{base}-{way.system}", *(f"{base}-{way.system}-{i}" for i in range(2, len(taken) + 3))]
    name = next(candidate for candidate in candidates if candidate.lower() not in taken)
    taken.add(name.lower())
    return name


def _site(
    way: Way, elements: Sequence[etree._Element], users: Sequence[str], short_name: str
) -> tuple[dict[str, Any], tuple[Kept, ...]]:
    """The plain values of one site file, and what its entries keep raw."""
    data = _site_data(way, elements, users, short_name)
    site = _described(way, data)
    several = len(data.get("accounts", ())) > 1
    imported = [
        import_entry(element, _rendered(site, user), site, user if several else None)
        for element, user in zip(elements, users)
    ]
    data["entries"] = [_ordered(entry) for entry in imported]
    return data, tuple(item for entry in imported for item in entry.kept)


def _comments(
    way: Way,
    source: str,
    names: Sequence[str],
    kept: Iterable[Kept],
    left: Sequence[Left],
    to_do: Iterable[Problem],
) -> Iterator[str]:
    """What stands on top of an imported file."""
    yield f"Imported by gwms-bosco from {Path(source).name}: {counted_entries(names)}."
    if left:
        named = ", ".join(f"{item.what} (line {item.line})" for item in left[:_LEFT_NAMED])
        more = f" and {len(left) - _LEFT_NAMED} more" if len(left) > _LEFT_NAMED else ""
        yield f"Not imported from there: {named}{more}."
    if way.host is None:
        yield "No login host is known. Before deploy, set login.host and accounts (`login: {host: ...}`,"
        yield f"`accounts: [{{user: ...}}]`) and check batch.system ({way.system} is only what the XML suggests); then"
        yield "remove gatekeeper, gridtype and auth_method from raw.attributes, which keep the old ones until then."
    lines = summary(kept)
    if lines:
        yield "Kept in `raw` as it was, because no field says exactly this:"
        yield from (f"- {line}" for line in lines)
    refused = list(to_do)
    if refused:
        yield "`gwms-bosco site check` refuses this file until:"
        yield from (f"- {problem.field}: {problem.message}; {problem.hint}" for problem in refused)


def summary(kept: Iterable[Kept]) -> tuple[str, ...]:
    """One line for each thing kept and reason, with the entries that have it."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for item in kept:
        by_reason.setdefault((item.field, item.why), []).append(item.entry)
    return tuple(f"{field} ({counted_entries(names)}): {why}" for (field, why), names in by_reason.items())


def counted_entries(names: Sequence[str]) -> str:
    """The name of one entry, or how many."""
    return names[0] if len(names) == 1 else f"{len(names)} entries"


def _attr_values(element: etree._Element) -> dict[str, str]:
    found = element.iterfind("./attrs/attr")
    return {str(attr.get("name")): str(attr.get("value") or "") for attr in found}


def _site_data(way: Way, elements: Sequence[etree._Element], users: Sequence[str], short_name: str) -> dict[str, Any]:
    """The fields of the site; those that give attributes only where every entry has the attribute."""
    attrs = [_attr_values(element) for element in elements]
    deriving = [values for values in attrs if {"GLIDEIN_Site", "GLIDEIN_ResourceName"} <= set(values)]
    named = [values.get(name, "") for values in (deriving or attrs) for name in ("GLIDEIN_Site", "GLIDEIN_CMSSite")]
    usable_names = [name for name in named if _fits("word", name)] or [short_name]
    # Without a login host, the entries of many sites may share one file.
    one_site = way.host is not None or len(set(usable_names)) == 1
    data: dict[str, Any] = {"site": usable_names[0] if one_site else short_name}
    if way.host is not None and deriving:
        resources = (values["GLIDEIN_ResourceName"] for values in deriving)
        resource = next((name for name in resources if _fits("word", name)), data["site"])
        if resource != data["site"]:
            data["resource"] = resource
        for field, name in _SITE_ATTRS:
            if all(name in values for values in deriving):
                value = next((value for value in (values[name] for values in deriving) if _usable(field, value)), None)
                if value is not None:
                    data[field] = value.split(",") if field == "supported_vos" else value
    domains = [element.get("trust_domain") or "" for element in elements]
    pattern = site_schema()["properties"]["trust_domain"]["pattern"]
    usable = (domain for domain in domains if re.fullmatch(pattern, domain) and len(domain) <= 256)
    data["trust_domain"] = next(usable, _DEFAULT_TRUST_DOMAIN)
    if way.host is not None:
        data["login"] = {"host": way.host} if way.port == DEFAULT_SSH_PORT else {"host": way.host, "port": way.port}
        data["accounts"] = [{"user": user} for user in dict.fromkeys(users)]
    data["batch"] = {"system": way.system}
    if way.bosco_dir is not None:
        data["install"] = {"bosco_dir": way.bosco_dir}
    return data


def _usable(field: str, value: str) -> bool:
    if field == "supported_vos":
        vos = value.split(",")
        return all(_fits("word", vo) for vo in vos) and len(set(vos)) == len(vos)
    return bool(re.fullmatch("[A-Z]{2}", value)) if field == "country" else _fits("word", value)


def _described(way: Way, data: Mapping[str, Any]) -> SiteDescription:
    """The site without entries."""
    return SiteDescription(
        name=data["site"],
        resource=data.get("resource", data["site"]),
        trust_domain=data["trust_domain"],
        login=None if way.host is None else Login(way.host, way.port),
        accounts=tuple(Account(item["user"], item["user"]) for item in data.get("accounts", ())),
        batch=Batch(way.system),
        entries=(),
        cms_site=data.get("cms_site"),
        country=data.get("country"),
        region=data.get("region"),
        supported_vos=tuple(data.get("supported_vos", ())),
        install=Install(way.bosco_dir),
    )


def _rendered(site: SiteDescription, user: str) -> dict[str, Optional[str]]:
    known = site.login is not None
    return {
        "auth_method": AUTH_METHOD,
        "bosco_dir": site.install.bosco_dir,
        "gatekeeper": gatekeeper(site, Account(user, user)) if known else None,
        "gridtype": gridtype(site) if known else None,
        "trust_domain": site.trust_domain,
    }


def _ordered(entry: ImportedEntry) -> dict[str, Any]:
    """Fields in the order of the schema, `raw` last."""
    order = site_schema()["definitions"]["entry"]["properties"]
    return {name: entry.data[name] for name in order if name in entry.data}


def _prove(text: str, short_name: str, wanted: Mapping[str, Meaning]) -> tuple[Problem, ...]:
    """Read the file as every command does, render it and compare; give what `site check` will still refuse.

    Raises:
        EntryError: the file is larger than a site file may be, or renders what does not mean the same.
    """
    with tempfile.TemporaryDirectory(prefix="gwms-bosco-import.") as folder:
        path = Path(folder) / f"{short_name}.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            site = describe_site(path)
        except SiteFileError as err:
            what = "; ".join(problem.message for problem in err.problems[:3])
            message = f"{short_name}: its {len(wanted)} entries do not fit into one site file: {what}"
            raise EntryError(message, "name fewer entries, and import the others into another folder") from None
    if entry_meanings(etree.fromstring(render_site(site))) != wanted:
        raise EntryError(f"{short_name}: the imported entries do not render back to what they were", "report this")
    problems = (*check_site(site), *check_raw(site), *submit_problems(site))
    return tuple(problem for problem in problems if problem.severity == "error")
