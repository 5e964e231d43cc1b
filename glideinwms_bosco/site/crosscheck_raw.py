# SPDX-License-Identifier: Apache-2.0
"""Checks of what imported entries keep in `raw`: it is rendered as it stands, so most findings are warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glideinwms_bosco.errors import Problem, SiteError
from glideinwms_bosco.site.crosscheck import attr_findings, submit_attr_findings, typed_field
from glideinwms_bosco.site.fragment import parse_fragment
from glideinwms_bosco.site.model import Attr, Entry, SiteDescription
from glideinwms_bosco.site.schema import site_schema

_IN_PLACE_OF_LOGIN = ("gatekeeper", "gridtype")
_REQUEST_FIELDS = ("cpus", "memory_mb", "walltime_s", "gpus", "whole_node", "queue", "project", "extra_args")


def check_raw(site: SiteDescription) -> Iterator[Problem]:
    """Find what raw blocks lack for a site without login, and what in them is odd or must not be."""
    yield from _login(site)
    for i, entry in enumerate(site.entries):
        where = f"entries[{i}].raw"
        for name, message, hint, severity in (*_attributes(site, entry), *_values(entry), *_fragments(entry)):
            field = f"{where}.{name}"
            yield Problem(site.file, site.line(field), field, message, hint, severity)


def typed_value_is_safe(field: str, value: str) -> bool:
    """Tell whether the value of a submit attribute obeys the pattern of the field it belongs into.

    Args:
        field: `batch.queue` and the like, see `crosscheck.typed_field`.
        value: as in the XML; a ClassAd string may have its quotes.
    """
    bare = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    definitions = site_schema()["definitions"]
    if field == "batch.extra_args":
        pattern = definitions["extraArgs"]["items"]["pattern"]
        return all(re.fullmatch(pattern, arg) for arg in split_extra_args(bare))
    return bool(re.fullmatch(definitions[field.split(".")[1]]["pattern"], bare))


def split_extra_args(text: str) -> list[str]:
    """Split a line of options into options with their values: `-l a=1 --b` -> `-l a=1`, `--b`."""
    args: list[str] = []
    for word in text.split(" "):
        if not args or word.startswith(("-", "+")):
            args.append(word)
        else:
            args[-1] += f" {word}"
    return args


Found = tuple[str, str, str, str]
"""Field below `raw`, message, hint, severity."""


def _login(site: SiteDescription) -> Iterator[Problem]:
    if site.external:
        return
    if site.login is not None:
        if not site.accounts:
            yield Problem(site.file, site.line("login"), "accounts", "missing", "add it; it is: Remote accounts.")
        return
    for i, entry in enumerate(site.entries):
        stated = dict(entry.raw.attributes)
        if any(name not in stated for name in _IN_PLACE_OF_LOGIN):
            where = site.line(f"entries[{i}].name")
            hint = f"add it, or raw.attributes gatekeeper and gridtype to entry {entry.name!r} (line {where})"
            yield Problem(site.file, 1, "login", "missing", hint)
            return
    message = "is not set: the entries keep their imported gatekeepers, and nothing can be deployed"
    yield Problem(site.file, 1, "login.host", message, "set login and accounts before deploy", "warning")


def _attributes(site: SiteDescription, entry: Entry) -> Iterator[Found]:
    stated = dict(entry.raw.attributes)
    for name in _IN_PLACE_OF_LOGIN:
        if site.login is not None and name in stated:
            message = f"is rendered in place of what `{'login' if name == 'gatekeeper' else 'batch.system'}` says"
            yield f"attributes.{name}", message, "remove it once that is right", "warning"
    folder = stated.get("bosco_dir")
    pattern = site_schema()["properties"]["install"]["properties"]["bosco_dir"]["pattern"]
    if folder is not None and not re.fullmatch(pattern, folder):
        message = f"{folder[:80]!r} reaches a command line on the login host and is no folder below the home"
        yield "attributes.bosco_dir", message, "use `install.bosco_dir` instead", "warning"
    default = Entry(entry.name)
    unused = [name for name in _REQUEST_FIELDS if getattr(entry, name) != getattr(default, name)]
    if unused and not entry.raw.derive:
        fields = ", ".join(name.replace("walltime_s", "walltime") for name in unused)
        yield "derive", f"with false, these have no effect: {fields}", "remove them, or derive: false", "warning"


def _values(entry: Entry) -> Iterator[Found]:
    own_attrs = {attr.name for attr in entry.attrs}
    own_submit_attrs = {name for name, _ in entry.submit_attrs}
    for name, block in entry.raw.attrs:
        stated = dict(block)
        attr = Attr(
            name,
            stated.get("value", ""),
            stated.get("type"),
            const=stated.get("const") != "False",
            parameter=stated.get("parameter") != "False",
            publish=stated.get("publish") != "False",
        )
        for message, hint in attr_findings(attr):
            yield f"attrs.{name}", message, hint, "warning"
        if name in own_attrs:
            yield f"attrs.{name}", "also stands in the entry's own attrs, which it replaces", "keep one", "warning"
    for name, value in entry.raw.submit_attrs:
        yield from _submit_attr(f"submit_attrs.{name}", name, value)
        if name in own_submit_attrs:
            message = "also stands in the entry's own submit_attrs, which it replaces"
            yield f"submit_attrs.{name}", message, "keep one", "warning"


def _submit_attr(field: str, name: str, value: str) -> Iterator[Found]:
    typed = typed_field(name)
    if typed is None:
        for message, hint in submit_attr_findings(name, value):
            yield field, message, hint, "warning"
    elif not typed_value_is_safe(typed, value):
        message = f"{name} reaches a command line on the login host, and {value[:80]!r} is not allowed there"
        yield field, message, f"use `{typed}` instead", "error"


def _fragments(entry: Entry) -> Iterator[Found]:
    for i, text in enumerate(entry.raw.children):
        field = f"children[{i}]"
        try:
            element = parse_fragment(text)
        except SiteError as err:
            yield field, err.message, err.hint, "error"
            continue
        if element.tag == "entry" and (len(element) or "name" in element.attrib):
            yield field, "an <entry> has attributes only, and not its name", "one item per child element", "error"
        for attr in element.iter("submit_attr"):
            yield from _submit_attr(field, attr.get("name") or "", attr.get("value") or "")
