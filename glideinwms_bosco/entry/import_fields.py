# SPDX-License-Identifier: Apache-2.0
"""Turn one <entry> into the fields of a site file; what no field says exactly stays over for `raw`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from lxml import etree

from glideinwms_bosco.entry.attrs import complete_attr, derived_attrs
from glideinwms_bosco.entry.import_request import find_request, request_fields, whole
from glideinwms_bosco.entry.import_xml import fragments, is_plain_attribute, is_text, normalised
from glideinwms_bosco.site.crosscheck import attr_findings, submit_attr_findings
from glideinwms_bosco.site.model import DEFAULT_WALLTIME_MARGIN_S, Attr, Entry, SiteDescription
from glideinwms_bosco.site.schema import fits
from glideinwms_bosco.site.walltime import parse_walltime

Scalar = Union[str, int, float, bool]
_FLAGS = ("const", "parameter", "publish", "glidein_publish", "job_publish")
_PLAIN = ("comment", "work_dir", "proxy_url", "verbosity", "rsl", "schedd_name")
_NO_FIELD = "has no field"


@dataclass(frozen=True)
class Kept:
    """Something of an entry that stands in its `raw` block: entry, field below the entry, and why."""

    entry: str
    field: str
    why: str


@dataclass
class ImportedEntry:
    """Fields of one entry as plain values for YAML, and what was kept raw."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    def keep(self, where: str, key: str, value: Any, why: str) -> None:
        """Put a value into `raw` and remember why."""
        self.data["raw"].setdefault(where, {})[key] = value
        self.kept.append(Kept(self.name, f"raw.{where}.{key}", why))


def _number(text: str) -> Optional[float]:
    """The number, if a site file's number is written as the same text again."""
    value: Optional[float] = whole(text)
    if value is None and len(text) <= 20 and text.isascii():
        try:
            value = float(text)
        except ValueError:
            return None
    return value if value is not None and str(value) == text else None


def _true_or_false(text: str) -> Optional[bool]:
    return {"True": True, "False": False}.get(text)


Convert = Callable[[str], Optional[Scalar]]
_LIMITS: dict[str, tuple[str, Convert]] = {name: (name, whole) for name in ("glideins", "idle", "held")}
_PACE: dict[str, tuple[str, Convert]] = {"max_per_cycle": ("max_per_cycle", whole), "sleep": ("sleep_s", _number)}
# Element below <config> -> block of the site file, and field and conversion of each XML attribute.
_CONFIG: tuple[tuple[str, tuple[str, ...], Mapping[str, tuple[str, Convert]]], ...] = (
    ("max_jobs/per_entry", ("limits", "per_entry"), _LIMITS),
    ("max_jobs/default_per_frontend", ("limits", "default_per_frontend"), _LIMITS),
    ("release", ("release",), _PACE),
    ("remove", ("remove",), _PACE),
    (
        "restrictions",
        ("restrictions",),
        {name: (name, _true_or_false) for name in ("require_voms_proxy", "require_glidein_glexec_use")},
    ),
    ("submit", ("submit",), {**_PACE, "cluster_size": ("cluster_size", whole), "slots_layout": ("slots_layout", str)}),
)


def import_entry(
    element: etree._Element,
    rendered: Mapping[str, Optional[str]],
    site: SiteDescription,
    account: Optional[str] = None,
) -> ImportedEntry:
    """Read one entry.

    Args:
        element: the <entry>; left as it is.
        rendered: XML attributes that the site's fields give to this entry (gatekeeper, gridtype ...).
        site: the fields of the site, for what is derived from them; without a login host nothing is.
        account: account the entry submits as, where the site has several.
    """
    rest = normalised(element)
    entry = ImportedEntry(str(element.get("name")))
    entry.data.update({"name": entry.name, "raw": {}})
    if account is not None:
        entry.data["accounts"] = [account]
    attrs = {str(child.get("name")): child for child in rest.iterfind("./attrs/attr") if child.get("name")}
    submit = {
        str(child.get("name")): str(child.get("value"))
        for child in rest.iterfind("./config/submit/submit_attrs/submit_attr")
        if set(child.attrib) == {"name", "value"} and child.get("name")
    }
    derived: dict[str, str] = {}
    derives = site.login is not None and {"GLIDEIN_Site", "GLIDEIN_ResourceName"} <= set(attrs)
    taken: frozenset[str] = frozenset()
    if derives:
        derived, taken = _derive(entry, site, attrs, submit)
    else:
        entry.data["raw"]["derive"] = False
    _attributes(entry, rest, rendered)
    _config(entry, rest)
    _submit_attrs(entry, rest, taken)
    _attrs(entry, rest, derived)
    _allow_frontends(entry, rest)
    left = fragments(rest)
    if left:
        entry.data["raw"]["children"] = left
        names = [text[1:].split(" ", 1)[0].split(">", 1)[0].rstrip("/") for text in left]
        entry.kept += [Kept(entry.name, f"raw.children <{name}>", _NO_FIELD) for name in names]
    if not entry.data["raw"]:
        del entry.data["raw"]
    return entry


def _derive(
    entry: ImportedEntry, site: SiteDescription, attrs: Mapping[str, etree._Element], submit: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    """Set the fields of the request; give the attributes that now follow, and the submit attributes that do."""
    request, taken = find_request(site.batch.system, submit, attrs.keys())
    walltime = attrs.get("GLIDEIN_Max_Walltime")
    max_walltime = None if walltime is None else walltime.get("value")
    fields = request_fields(request, max_walltime)
    entry.data.update(fields)
    margin = parse_walltime(fields["walltime_margin"]) if "walltime_margin" in fields else DEFAULT_WALLTIME_MARGIN_S
    sized = Entry(
        entry.name,
        cpus=request.cpus,
        memory_mb=request.memory_mb,
        gpus=request.gpus,
        walltime_s=request.walltime_s,
        walltime_margin_s=margin,
    )
    return dict(derived_attrs(site, sized)), taken


def _attributes(entry: ImportedEntry, rest: etree._Element, rendered: Mapping[str, Optional[str]]) -> None:
    if rest.get("enabled") == "False":
        entry.data["enabled"] = False
        del rest.attrib["enabled"]
    elif rest.get("enabled") == "True":
        del rest.attrib["enabled"]
    elif "enabled" not in rest.attrib:
        entry.keep("attributes", "enabled", None, "is not written in the XML")
    for name in _PLAIN:
        value = rest.get(name)
        if value is not None and is_text(value) and fits((name,), value):
            entry.data[name] = value
            del rest.attrib[name]
    for name, given in rendered.items():
        _rendered_attribute(entry, rest, name, given)
    for name, value in [(str(name), str(value)) for name, value in rest.attrib.items()]:
        if is_plain_attribute(name, value):
            why = "is not what the field takes" if name in _PLAIN else _NO_FIELD
            entry.keep("attributes", name, value, "is not True or False" if name == "enabled" else why)
            del rest.attrib[name]


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _rendered_attribute(entry: ImportedEntry, rest: etree._Element, name: str, given: Optional[str]) -> None:
    found = rest.get(name)
    # Without a login host these two must stand in `raw`, whatever they are.
    if found == given and not (given is None and name in ("gatekeeper", "gridtype")):
        rest.attrib.pop(name, "")
    elif found is None:
        entry.keep("attributes", name, None, "is not written in the XML")
    elif is_text(found):
        why = "no login host is known" if given is None else f"is not {given!r}"
        entry.keep("attributes", name, found, why)
        del rest.attrib[name]
    elif given is None:
        entry.data["raw"].setdefault("attributes", {})[name] = None


def _config(entry: ImportedEntry, rest: etree._Element) -> None:
    for path, block, attributes in _CONFIG:
        element = rest.find(f"config/{path}")
        if element is None:
            continue
        values = _take(element, block, attributes)
        idle, glideins = values.get("idle"), values.get("glideins")
        if idle is not None and glideins is not None and idle > glideins:
            # `site check` refuses this; what runs today is kept, and reported with the rest.
            element.set("idle", str(values.pop("idle")))
        if values:
            _block(entry.data, block).update(values)
    frontends = rest.find("config/max_jobs/per_frontends")
    for element in list(() if frontends is None else frontends):
        name = element.get("name") or ""
        converted = {key: whole(str(value)) for key, value in element.attrib.items() if key != "name"}
        plain = element.tag == "per_frontend" and not len(element) and converted.keys() <= _LIMITS.keys()
        too_many = (converted.get("idle") or 0) > (converted.get("glideins") or 10**9)
        if plain and not too_many and fits(("limits", "per_frontends"), {name: converted}):
            _block(entry.data, ("limits", "per_frontends"))[name] = converted
            _remove(element)


def _take(
    element: etree._Element, block: tuple[str, ...], attributes: Mapping[str, tuple[str, Convert]]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for attribute, (name, convert) in attributes.items():
        text = element.get(attribute)
        value = None if text is None else convert(text)
        if value is not None and fits((*block, name), value):
            values[name] = value
            del element.attrib[attribute]
    return values


def _block(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for name in path:
        data = data.setdefault(name, {})
    return data


def _submit_attrs(entry: ImportedEntry, rest: etree._Element, taken: frozenset[str]) -> None:
    parent = rest.find("config/submit/submit_attrs")
    for element in list(() if parent is None else parent):
        name, value = element.get("name") or "", element.get("value")
        if element.tag != "submit_attr" or set(element.attrib) != {"name", "value"} or len(element) or value is None:
            continue
        if not name or not is_text(name) or not is_text(value):
            continue
        findings = [message for message, _ in submit_attr_findings(name, value)]
        if name not in taken:
            if findings or not fits(("submit_attrs",), {name: value}):
                entry.keep("submit_attrs", name, value, findings[0] if findings else "has an unusual name")
            else:
                _block(entry.data, ("submit_attrs",))[name] = _scalar(value)
        _remove(element)


def _attrs(entry: ImportedEntry, rest: etree._Element, derived: Mapping[str, str]) -> None:
    parent = rest.find("attrs")
    for element in list(() if parent is None else parent):
        name = element.get("name") or ""
        values = {str(key): str(value) for key, value in element.attrib.items() if key != "name"}
        plain = all(is_plain_attribute(key, value) for key, value in values.items())
        if element.tag != "attr" or len(element) or not name or not is_text(name) or not plain:
            continue
        attr = _attr(name, values)
        why = _unlike_a_field(values) if attr is None else next((text for text, _ in attr_findings(attr)), "")
        if attr is None or why:
            entry.keep("attrs", name, values, why)
        elif name not in derived or complete_attr(Attr(name, derived[name])) != attr:
            _block(entry.data, ("attrs",))[name] = _attr_value(attr)
        _remove(element)


def _unlike_a_field(values: Mapping[str, str]) -> str:
    missing = [key for key in ("value", "type", *_FLAGS) if key not in values]
    if missing:
        return f"leaves {', '.join(missing)} to glideinWMS"
    return "has a type, a flag or an attribute that no field takes"


def _attr(name: str, values: Mapping[str, str]) -> Optional[Attr]:
    """The attribute, if the site file can say all of it."""
    flags = {key: _true_or_false(values.get(key, "")) for key in _FLAGS}
    block = {"value": values.get("value"), "type": values.get("type"), **flags}
    if "comment" in values:
        block["comment"] = values["comment"]
    if not values.keys() <= block.keys() or not fits(("attrs",), {name: block}):
        return None
    return Attr(name=name, **block)  # type: ignore[arg-type]


def _attr_value(attr: Attr) -> Any:
    """Write an attribute as a site file does: its value alone where the flags are those of its name."""
    value = _scalar(attr.value)
    if isinstance(value, int) and not isinstance(value, bool) and attr.type != "int":
        value = attr.value
    kind = "int" if type(value) is int else None
    default = complete_attr(Attr(attr.name, attr.value, kind))
    block: dict[str, Any] = {
        key: getattr(attr, key) for key in ("type", *_FLAGS) if getattr(attr, key) != getattr(default, key)
    }
    if attr.comment is not None:
        block["comment"] = attr.comment
    return {"value": value, **block} if block else value


def _scalar(text: str) -> Union[str, int, bool]:
    """The YAML value that is rendered as this text: a truth value, a whole number, or the text itself."""
    truth = _true_or_false(text)
    if truth is not None:
        return truth
    value = whole(text)
    return text if value is None else value


def _allow_frontends(entry: ImportedEntry, rest: etree._Element) -> None:
    parent = rest.find("allow_frontends")
    for element in list(() if parent is None else parent):
        item = {str(key): str(value) for key, value in element.attrib.items()}
        if element.tag == "allow_frontend" and not len(element) and fits(("allow_frontends",), [item]):
            entry.data.setdefault("allow_frontends", []).append(item)
            _remove(element)
