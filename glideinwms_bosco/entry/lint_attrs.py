# SPDX-License-Identifier: Apache-2.0
"""Rules about `<attr>`: what reconfig refuses, and what breaks on the worker node."""

from __future__ import annotations

import re

from lxml import etree

from glideinwms_bosco.entry.configuration import elements
from glideinwms_bosco.entry.lint_context import Scope, shown

_TYPES = frozenset(("string", "int", "expr"))
# Defaults: glideinWMS 3.10 creation/lib/factory_defaults.xml.
_FLAGS = {"const": "True", "parameter": "True", "publish": "True", "glidein_publish": "False", "job_publish": "False"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# As Python's int() takes them, which reconfig uses.
_INTEGER = re.compile(r"\s*[+-]?[0-9]+(_[0-9]+)*\s*")
_SINGULARITY = frozenset(("REQUIRED_GWMS", "NEVER", "OPTIONAL", "PREFERRED", "REQUIRED"))


def check_attrs(scope: Scope) -> None:
    """Check the attributes of an entry, or the global ones."""
    seen: dict[str, etree._Element] = {}
    for attr in elements(scope.element, "attrs", "attr"):
        name = attr.get("name")
        if name is None:
            scope.found(6, attr, "<attr> has no name")
            continue
        name = str(name)
        _definition(scope, attr, name)
        value = attr.get("value")
        if value is not None:
            _value(scope, attr, name, str(value))
            _special(scope, attr, name, str(value))
        first = seen.setdefault(name, attr)
        if first is not attr:
            line = scope.source.line(first)
            if sorted(first.attrib.items()) == sorted(attr.attrib.items()):
                # Global ones are compared by const with one another before the default is put into the second.
                severity = "error" if not scope.entry and attr.get("const") is None else ""
                scope.found(46, attr, f"attribute {name} stands on line {line} already, equal", severity=severity)
            else:
                scope.found(45, attr, f"attribute {name} stands on line {line} already, with another definition")
        if scope.entry:
            _against_global(scope, attr, name)


def _definition(scope: Scope, attr: etree._Element, name: str) -> None:
    if not _NAME.fullmatch(name):
        severity = "error" if not name or re.search(r"\s", name) else "warning"
        scope.found(48, attr, f"{shown(name)} is no usable name", severity=severity)
    if attr.get("value") is None:
        scope.found(40, attr, f"attribute {name} has no value")
    if attr.get("type", "string") not in _TYPES:
        scope.found(41, attr, f"attribute {name}: type={shown(str(attr.get('type')))}")
    flags = {flag: str(attr.get(flag, default)) for flag, default in _FLAGS.items()}
    bad = {flag: value for flag, value in flags.items() if value not in ("True", "False")}
    for flag, value in bad.items():
        scope.found(43, attr, f"attribute {name}: {flag}={shown(value)}")
    if bad:
        return
    publish, const, parameter = (flags[flag] == "True" for flag in ("publish", "const", "parameter"))
    if (publish and not const and not parameter) or (not publish and not (const and parameter)):
        scope.found(44, attr, f"attribute {name}: publish={publish} const={const} parameter={parameter}")


def _value(scope: Scope, attr: etree._Element, name: str, value: str) -> None:
    type_ = attr.get("type", "string")
    if type_ == "int":
        if not _INTEGER.fullmatch(value):
            scope.found(42, attr, f"attribute {name}: {shown(value)} is no whole number")
        return
    if not value:
        scope.found(47, attr, f"attribute {name} is empty")
    # Source: creation/web_base/condor_startup.sh, set_var: `eval "$var='value'"`, then `NAME = "value"`.
    if attr.get("glidein_publish") == "True" or attr.get("job_publish") == "True":
        if "'" in value:
            scope.found(49, attr, f"attribute {name}: {shown(value)} has a single quote")
        if type_ == "string" and '"' in value:
            scope.found(50, attr, f"attribute {name}: {shown(value)} has a double quote")
    if type_ == "string" and re.search("[&<>]", value):
        scope.found(51, attr, f"attribute {name}: {shown(value)} has & < or >")


def _special(scope: Scope, attr: etree._Element, name: str, value: str) -> None:
    """Attributes whose values reconfig looks at."""
    if name == "GLIDEIN_SINGULARITY_REQUIRE" and value and value not in _SINGULARITY:
        scope.found(54, attr, f"{name}: {shown(value)} is refused")
    # Any value other than the whole number 0 counts, "0" of type string too.
    used = name == "GLIDEIN_USE_CVMFSEXEC" and not (attr.get("type") == "int" and value.strip("+-0 ") == "")
    if used and not _has_distro(scope):
        scope.found(55, attr, f"{name}: {shown(value)} of type {attr.get('type', 'string')!s}")
    if name.upper() == "GLIDEIN_OVERLOAD_ENABLED" and scope.entry:
        flexible = attr.get("parameter", "True") == "True" and attr.get("const", "True") == "False"
        if not value.strip() or (value.strip().endswith("%") and not flexible):
            scope.found(56, attr, f"{name}: {shown(value)}")


def _has_distro(scope: Scope) -> bool:
    sources = scope.context.configuration.sources
    return any(distro.get("sources") for source in sources for distro in source.root.iterchildren("cvmfsexec_distro"))


def _against_global(scope: Scope, attr: etree._Element, name: str) -> None:
    place = scope.context.global_attrs.get(name)
    if place is None or place.element.get("const", "True") == attr.get("const", "True"):
        return
    # Source: FactAttrElement.check_overwrite_soundness; an entry of config.d has its own file as its root.
    seen = place.source is scope.source or scope.source is scope.context.configuration.main
    scope.found(52 if seen else 53, attr, f"attribute {name}: const is the opposite of that at {place}")
