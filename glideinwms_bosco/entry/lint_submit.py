# SPDX-License-Identifier: Apache-2.0
"""Rules about `<submit_attr>`: what stops reconfig or condor_submit, and what the batch system never sees.

Source: glideinWMS 3.10 creation/lib/cgWCreate.py (GlideinSubmitDictFile.populate); HTCondor 23.9 blahpd and
libexec/blahp/*_submit.sh, tried for slurm, condor and sge.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from types import ModuleType
from typing import Optional

from lxml import etree

from glideinwms_bosco.batch import BATCH_SYSTEMS
from glideinwms_bosco.entry.configuration import elements
from glideinwms_bosco.entry.lint_context import Scope, shown


def _bindings() -> Optional[ModuleType]:
    try:
        return importlib.import_module("classad2")
    except ImportError:
        return None


_CLASSAD2 = _bindings()
# The bindings' own class is no ValueError; older ones raise plain classes.
_REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    SyntaxError,
    RuntimeError,
    getattr(_CLASSAD2, "ClassAdException", ValueError),
)

# Submit commands that glideinWMS writes, in lower case.
_RESERVED = frozenset(
    """
    universe grid_resource executable arguments environment transfer_input_files encrypt_input_files copy_to_spool
    transfer_executable transfer_output_files whentotransferoutput stream_output stream_error
    job_ad_information_attrs periodic_remove notification log output error +scitokensfile +owner +fename
    +glideinfactory +glideinname +glideinentryname +glideinentrysubmitfile +glideinclient +glideinfrontendname
    +glideincredentialidentifier +glideinsecurityclass +glideinwebbase +glideinlognr +glideinworkdir
    +glideinslotslayout +glideinmaxwalltime +glideinoverloadenabled +glideinproxyurl
    """.split()  # noqa: SIM905
)
_ALL = frozenset(BATCH_SYSTEMS)
_NO_NODES = frozenset(("sge", "condor"))
# Job attribute, lower case without `_` -> batch systems on which it has no effect; what has.
_NO_EFFECT: dict[str, tuple[frozenset[str], str]] = {
    "requestcpus": (_ALL, "use +NodeNumber"),
    "maxwalltime": (_ALL, "it is a route name of HTCondor-CE; use batch_runtime, in seconds"),
    "maxmemory": (_ALL, "it is a route name of HTCondor-CE; use request_memory, in MB"),
    "xcount": (_ALL, "it is a route name of HTCondor-CE; use +NodeNumber"),
    "requestmemory": (frozenset(("sge", "lsf")), "use batch_extra_submit_args"),
    "batchproject": (frozenset(("condor",)), "use batch_extra_submit_args, for example `+ProjectName=...`"),
    "hostnumber": (_NO_NODES, "use +NodeNumber"),
    "wholenodes": (_NO_NODES, "use +NodeNumber"),
    "hostsmpsize": (_NO_NODES, "use +NodeNumber"),
    "smpgranularity": (_NO_NODES, "use +NodeNumber"),
}
_ON_COMMAND_LINE = frozenset(("batchqueue", "remotequeue", "batchproject"))
_STRINGS = frozenset((*_ON_COMMAND_LINE, "batchextrasubmitargs"))
_SAFE = re.compile(r"[A-Za-z0-9_.:@/+,=-]+")
_QUOTED = re.compile(r'"([^"\\]*)"')
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_LITERALS = frozenset(("true", "false", "undefined", "error"))
# blahp divides by 60 for these.
_IN_MINUTES = frozenset(name for name, system in BATCH_SYSTEMS.items() if system.runtime_unit_s == 60)
_RUNTIME = re.compile(r"[0-9]{1,12}")
_NOT_A_RUNTIME = re.compile(r"[0-9]+([.][0-9]*)?\s*[A-Za-z]+|[0-9:-]+|-[0-9]+")
_MEMORY = re.compile(r"([0-9]{1,12})\s*([KMGT]B?)?", re.IGNORECASE)
_NOT_A_MEMORY = re.compile(r"-[0-9]+|[0-9.]+\s*[A-Za-z]+")
# The parser is recursive C++ code.
MAX_EXPRESSION_CHARS = 4_096
MAX_BRACKETS = 100


def bindings_missing() -> bool:
    """Tell whether ClassAd expressions cannot be checked here."""
    return _CLASSAD2 is None


def check_submit(scope: Scope) -> None:
    """Check the submit attributes of an entry."""
    submit = scope.path("config", "submit")
    if submit is None:
        return
    seen: dict[str, etree._Element] = {}
    for attr in elements(submit, "submit_attrs", "submit_attr"):
        name = str(attr.get("name", "")).strip()
        if not name:
            scope.found(80, attr, "<submit_attr> has no name")
            continue
        _name(scope, attr, name)
        value = attr.get("value")
        if value is None:
            scope.found(82, attr, f"submit_attr {name} has no value")
        elif not str(value).strip():
            scope.found(27, attr, f"submit_attr {name} is empty")
        else:
            _value(scope, attr, name, str(value).strip())
        first = seen.setdefault(_attribute(name), attr)
        if first is not attr:
            _twice(scope, first, attr, name)
    if scope.batch == "slurm" and "hostnumber" in seen and "smpgranularity" in seen and "wholenodes" not in seen:
        message = "submit_attr +HostNumber is ignored beside +SMPGranularity"
        scope.found(84, seen["hostnumber"], message, "add +WholeNodes, or remove it")


def _attribute(name: str) -> str:
    """The job attribute that is set: `request_memory` and `+RequestMemory` are the same one."""
    return re.sub(r"^(\+|my\.)", "", name.lower()).replace("_", "")


def _is_expression(name: str) -> bool:
    return name.startswith("+") or name.lower().startswith("my.")


def _name(scope: Scope, attr: etree._Element, name: str) -> None:
    if name.lower() in _RESERVED:
        scope.found(81, attr, f"glideinWMS writes {name} itself")
    systems, instead = _NO_EFFECT.get(_attribute(name), (frozenset[str](), ""))
    if scope.batch in systems:
        scope.found(84, attr, f"submit_attr {name} has no effect on batch {scope.batch}", instead)
    if scope.batch is not None and _attribute(name) == "remotecerequirements":
        message = f"submit_attr {name} has no effect without a {scope.batch}_local_submit_attributes.sh"
        scope.found(92, attr, message)


def _twice(scope: Scope, first: etree._Element, attr: etree._Element, name: str) -> None:
    line = scope.source.line(first)
    same = str(first.get("name")) == str(attr.get("name"))
    # Equal ones reconfig takes for one; of two spellings condor_submit sees both.
    severity = "error" if same and first.get("value") != attr.get("value") else "warning"
    scope.found(83, attr, f"submit_attr {name} sets what line {line} sets already", severity=severity)


def _value(scope: Scope, attr: etree._Element, name: str, value: str) -> None:
    if "$" in value:
        return  # a macro of condor_submit: what it becomes is not known here
    if _is_expression(name):
        _expression(scope, attr, name, value)
    if scope.batch is None:
        return
    attribute = _attribute(name)
    quoted = _QUOTED.fullmatch(value)
    plain = quoted[1] if quoted else value
    literal = quoted is not None or not _is_expression(name)
    if attribute in _ON_COMMAND_LINE and literal and not _SAFE.fullmatch(plain):
        scope.found(87, attr, f"submit_attr {name}={shown(plain)} reaches a command line")
    if attribute in _STRINGS and not literal and _IDENTIFIER.fullmatch(value):
        scope.found(91, attr, f"submit_attr {name}={shown(value)} names an attribute")
    if attribute == "batchruntime":
        _runtime(scope, attr, value)
    if attribute == "requestmemory":
        _memory(scope, attr, value)


def _expression(scope: Scope, attr: etree._Element, name: str, value: str) -> None:
    if len(value) > MAX_EXPRESSION_CHARS or sum(map(value.count, "([{")) > MAX_BRACKETS:
        scope.found(85, attr, f"submit_attr {name} is too long or too deep to be checked", severity="warning")
    elif not _parses(value):
        scope.found(85, attr, f"submit_attr {name}={shown(value)} is no ClassAd expression")


@lru_cache(maxsize=4096)
def _parses(value: str) -> bool:
    if _CLASSAD2 is None:
        return True
    try:
        _CLASSAD2.ExprTree(value)
    except _REFUSALS:
        return False
    return True


def _runtime(scope: Scope, attr: etree._Element, value: str) -> None:
    if not _RUNTIME.fullmatch(value):
        if _NOT_A_RUNTIME.fullmatch(value):
            scope.found(88, attr, f"batch_runtime={shown(value)} is no number of seconds")
        return
    seconds = int(value)
    unit_s = 60 if scope.batch in _IN_MINUTES else 1
    if seconds < unit_s:
        scope.found(88, attr, f"batch_runtime={seconds} s becomes 0, which is no limit at all", "write 60 or more")
    elif seconds % unit_s:
        scope.found(90, attr, f"batch_runtime={seconds} s is rounded down to {seconds // 60} min")
    lifetime = scope.attr("GLIDEIN_Max_Walltime")
    planned = "" if lifetime is None else str(lifetime.get("value", ""))
    if _RUNTIME.fullmatch(planned) and int(planned) >= seconds > 0:
        scope.found(58, attr, f"GLIDEIN_Max_Walltime={planned} s is not less than batch_runtime={seconds} s")


def _memory(scope: Scope, attr: etree._Element, value: str) -> None:
    match = _MEMORY.fullmatch(value)
    if (match and int(match[1]) == 0) or (match is None and _NOT_A_MEMORY.fullmatch(value)):
        scope.found(89, attr, f"request_memory={shown(value)} is no amount of memory")
