# SPDX-License-Identifier: Apache-2.0
"""Rules about the attributes of `<entry>` itself, and what batch entries need."""

from __future__ import annotations

import re

from glideinwms_bosco.batch import BATCH_SYSTEMS
from glideinwms_bosco.entry.lint_context import Scope, shown

_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
_GATEKEEPER = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:(?P<port>[0-9]{1,5}))?"
)
_BOSCO_DIR = re.compile(r"[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*")
# Source: glideinWMS 3.10 creation/lib/cgWCreate.py (populate); HTCondor's grid types.
_GRIDTYPES = frozenset(("condor", "arc", "ec2", "gce", "azure", "cream", "nordugrid", "gt2", "gt5"))
_GONE = frozenset(("gt2", "gt5"))
# Source: glideinWMS 3.10 creation/web_base/glidein_startup.sh, the cases of `-v` and `-dir`.
_VERBOSITIES = frozenset(("std", "fast", "nodebug", "check"))
_WORK_DIRS = frozenset((".", "Condor", "CONDOR", "OSG", "TMPDIR", "AUTO"))
_LAYOUTS = frozenset(("fixed", "partitionable"))
# Source: glideinWMS 3.10 factory/glideFactoryCredentials.py, check_security_credentials; 3.11 lib/credentials.
_AUTH_METHODS = frozenset(
    (
        "grid_proxy", "voms_proxy", "cert_pair", "key_pair", "username_password", "auth_file", "scitoken", "idtoken",
        "x509_pair", "symmetric_key", "vm_id", "vm_type", "project_id", "username", "RemoteUsername", "VMId", "VMType",
        "ProjectId", "GlideinProxy",
    )
)  # fmt: skip
_MAY_BE_EMPTY = frozenset(("rsl", "comment", "schedd_name", "proxy_url", "vm_id", "vm_type"))


def check_entry(scope: Scope) -> None:
    """Check the attributes of an entry."""
    _identity(scope)
    _words(scope)
    for name, value in scope.element.attrib.items():
        # An empty gatekeeper and name have codes of their own.
        if str(value) == "" and name not in _MAY_BE_EMPTY and name not in ("name", "gatekeeper", "alias"):
            scope.found(27, scope.element, f"{name!s} is empty")
    if scope.get("schedd_name"):
        scope.found(26, scope.element, f"schedd_name={shown(scope.get('schedd_name'))} has no effect")
    if scope.batch is not None:
        _batch_entry(scope, scope.batch)


def _identity(scope: Scope) -> None:
    entry = scope.element
    name = scope.get("alias" if entry.tag == "entry_set" else "name")
    if name and not _NAME.fullmatch(name):
        scope.found(11, entry, f"the name {shown(name)} has unusual characters")
    if entry.tag == "entry" and not scope.get("gatekeeper").strip():
        scope.found(12, entry, "has no gatekeeper")
    if scope.get("enabled", "True") not in ("True", "False"):
        scope.found(13, entry, f"enabled={shown(scope.get('enabled'))}")


def _words(scope: Scope) -> None:
    entry = scope.element
    gridtype = scope.get("gridtype", "condor")
    if scope.batch is None and gridtype in _GONE and scope.get("enabled", "True") == "True":
        scope.found(19, entry, f"gridtype={shown(gridtype)} is not supported any more")
    elif scope.batch is None and gridtype not in _GRIDTYPES:
        scope.found(18, entry, f"gridtype={shown(gridtype)} is not known")
    unknown = [word for word in re.split(r"[+;,]", scope.get("auth_method", "grid_proxy")) if word not in _AUTH_METHODS]
    if unknown:
        scope.found(20, entry, f"auth_method={shown(scope.get('auth_method'))}: {shown(unknown[0])} is not known")
    if scope.get("verbosity", "std") not in _VERBOSITIES:
        scope.found(21, entry, f"verbosity={shown(scope.get('verbosity'))} is not known")
    submit = scope.path("config", "submit")
    layout = "fixed" if submit is None else str(submit.get("slots_layout", "fixed"))
    if submit is not None and layout not in _LAYOUTS:
        scope.found(22, submit, f"slots_layout={shown(layout)} is not known")
    work_dir = scope.get("work_dir", ".")
    # A variable is expanded on the worker node.
    if work_dir and work_dir not in _WORK_DIRS and not work_dir.startswith(("/", "$")):
        scope.found(23, entry, f"work_dir={shown(work_dir)} is taken as a folder relative to wherever the job starts")


def _batch_entry(scope: Scope, system: str) -> None:
    entry = scope.element
    if not system:
        scope.found(16, entry, "gridtype=`batch` names no batch system")
    elif system not in BATCH_SYSTEMS:
        scope.found(17, entry, f"batch system {shown(system)} is not known")
    gatekeeper = scope.get("gatekeeper")
    match = _GATEKEEPER.fullmatch(gatekeeper)
    if gatekeeper.strip():
        if match is None or (match["port"] and not 0 < int(match["port"]) < 65536):
            scope.found(14, entry, f"gatekeeper={shown(gatekeeper)} is not [user@]host[:port]")
        elif not match["user"]:
            scope.found(15, entry, f"gatekeeper={shown(gatekeeper)} names no user")
    bosco_dir = scope.element.get("bosco_dir")
    if bosco_dir is None:
        scope.found(24, entry, "has no bosco_dir; HTCondor takes ~/bosco")
    elif not _BOSCO_DIR.fullmatch(bosco_dir) or ".." in str(bosco_dir).split("/"):
        scope.found(25, entry, f"bosco_dir={shown(str(bosco_dir))} is not a relative folder")
    if "key_pair" not in re.split(r"[+;,]", scope.get("auth_method", "grid_proxy")):
        scope.found(28, entry, f"auth_method={shown(scope.get('auth_method', 'grid_proxy'))} gives ssh no key")
    if scope.attr("GLIDEIN_CPUS") is None:
        scope.found(57, entry, "GLIDEIN_CPUS is not set: the pilot offers one CPU")
