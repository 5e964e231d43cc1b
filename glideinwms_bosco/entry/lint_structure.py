# SPDX-License-Identifier: Apache-2.0
"""Rules about elements and their attributes as such: what glideinWMS does not know, it drops without a word.

Source: glideinWMS 3.10 and 3.11 creation/lib/factory_defaults.xml, and the keys that creation/lib reads beside it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Set
from functools import lru_cache
from typing import Optional

from lxml import etree

from glideinwms_bosco.entry.configuration import LIST_KEYS
from glideinwms_bosco.entry.lint_context import Scope, shown

_LIMITS = "glideins held idle"
_FLAGS = "const executable period prefix wrapper untar type time"
# Element -> its attributes; its children. `config/submit` and `entry_sets/entries` differ from those of the root.
_TABLE: dict[str, tuple[str, str]] = {
    "glidein": (
        "factory_name factory_collector advertise_delay advertise_with_multiple advertise_with_tcp "
        "advertise_pilot_accounting entry_parallel_workers factory_versioning glidein_name loop_delay "
        "recoverable_exitcodes restart_attempts restart_interval schedd_name comment",
        "log_retention monitor monitor_footer security stage submit attrs entries entry_sets condor_tarballs files "
        "cvmfsexec_distro monitoring_collectors",
    ),
    "log_retention": ("", "condor_logs job_logs summary_logs process_logs"),
    "condor_logs": ("max_days max_mbytes min_days", ""),
    "job_logs": ("max_days max_mbytes min_days", ""),
    "summary_logs": ("max_days max_mbytes min_days", ""),
    "process_logs": ("", "process_log"),
    "process_log": ("structured max_days max_mbytes min_days backup_count compression extension msg_types", ""),
    "monitor": ("base_dir flot_dir javascriptRRD_dir jquery_dir update_thread_count", ""),
    "monitor_footer": ("display_txt href_link", ""),
    "security": ("key_length pub_key remove_old_cred_age remove_old_cred_freq reuse_oldkey_onstartup_gracetime",
                 "frontends"),
    "frontends": ("", "frontend"),
    "frontend": ("name identity comment", "security_classes"),
    "security_classes": ("", "security_class"),
    "security_class": ("name username", ""),
    "stage": ("base_dir use_symlink web_base_url", ""),
    "glidein/submit": ("base_client_log_dir base_client_proxies_dir base_dir base_log_dir num_factories", ""),
    "config/submit": ("cluster_size max_per_cycle sleep slots_layout", "submit_attrs"),
    "attrs": ("", "attr"),
    "attr": ("name value type const parameter publish glidein_publish job_publish comment", ""),
    "entries": ("", "entry"),
    "entry": (
        "name gatekeeper enabled gridtype auth_method trust_domain work_dir verbosity proxy_url bosco_dir rsl vm_id "
        "vm_type schedd_name comment",
        "config allow_frontends attrs files infosys_refs monitorgroups",
    ),
    "entry_sets": ("", "entry_set"),
    "entry_set": (
        "alias enabled gatekeeper gridtype auth_method trust_domain work_dir verbosity proxy_url bosco_dir rsl vm_id "
        "vm_type schedd_name comment",
        "config allow_frontends attrs files infosys_refs monitorgroups entries",
    ),
    "config": ("", "max_jobs stale_age release remove restrictions submit entry_selection"),
    "max_jobs": ("num_factories", "default_per_frontend per_entry per_frontends"),
    "default_per_frontend": (_LIMITS, ""),
    "per_entry": (_LIMITS, ""),
    "per_frontends": ("", "per_frontend"),
    "per_frontend": (f"name {_LIMITS}", ""),
    "stale_age": ("idle running unclaimed", ""),
    "release": ("max_per_cycle sleep", ""),
    "remove": ("max_per_cycle sleep", ""),
    # require_glidein_glexec_use is of older versions; every entry of the production factories still has it.
    "restrictions": ("require_voms_proxy require_glidein_glexec_use", ""),
    "entry_selection": ("algorithm_name", ""),
    "submit_attrs": ("", "submit_attr"),
    "submit_attr": ("name value all_grid_types comment", ""),
    "allow_frontends": ("", "allow_frontend"),
    "allow_frontend": ("name security_class comment", ""),
    "files": ("", "file"),
    "file": (f"absfname relfname after_entry comment {_FLAGS}", "untar_options"),
    "untar_options": ("dir absdir_outattr cond_attr", ""),
    "infosys_refs": ("", "infosys_ref"),
    "infosys_ref": ("ref server type", ""),
    "monitorgroups": ("", "monitorgroup"),
    "monitorgroup": ("group_name", ""),
    "condor_tarballs": ("", "condor_tarball"),
    "condor_tarball": ("arch os version tar_file base_dir", ""),
    "cvmfsexec_distro": ("sources platforms", ""),
    "monitoring_collectors": ("", "monitoring_collector"),
    "monitoring_collector": ("DN node group secondary", ""),
}  # fmt: skip
_KNOWN = {tag: (frozenset(names.split()), frozenset(tags.split())) for tag, (names, tags) in _TABLE.items()}
# The defaults give condor_tarball, process_log a value; the other lists below have a code of their own.
_HAS_DEFAULT_KEY = frozenset(("condor_tarballs", "process_logs"))
_OWN_CODE = frozenset(("attrs", "files", "submit_attrs", "entries", "entry_sets"))
# What reconfig refuses to be without, beside the keys of lists.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "frontend": ("identity",),
    "infosys_ref": ("server", "type"),
    "monitoring_collector": ("node",),
}
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_structure(scope: Scope) -> None:
    """Check an element and everything below it, except `<entry>` and `<entry_set>`, which have scopes of their own."""
    _element(scope, scope.element, _kind(scope.element))


def _kind(element: etree._Element) -> str:
    tag = str(element.tag)
    if tag != "submit":
        return tag
    parent = element.getparent()
    return "glidein/submit" if parent is not None and parent.tag == "glidein" else "config/submit"


def _element(scope: Scope, element: etree._Element, kind: str) -> None:
    names, tags = _KNOWN[kind]
    tag = str(element.tag)
    for name, value in element.attrib.items():
        if name not in names:
            _unknown_attribute(scope, element, str(name), names)
        # A plain newline is a blank by now; only one that was written as a character reference is left.
        if _CONTROL.search(str(value)):
            scope.found(9, element, f"{name!s}={shown(str(value))} of <{tag}> has a control character")
    for name in _REQUIRED.get(tag, ()):
        if element.get(name) is None:
            scope.found(110, element, f"<{tag}> has no {name}")
    if tag == "condor_tarball" and element.get("tar_file") is None and element.get("base_dir") is None:
        scope.found(110, element, "<condor_tarball> has neither tar_file nor base_dir")
    key = LIST_KEYS.get(kind)
    seen: dict[str, etree._Element] = {}
    for inner in element.iterchildren(etree.Element):
        inner_tag = str(inner.tag)
        if inner_tag not in tags:
            _unknown_element(scope, element, inner, tags)
            continue
        if key is None and inner_tag in seen:
            # An empty one is no loss.
            earlier = seen[inner_tag]
            severity = "" if len(earlier) or earlier.attrib else "warning"
            message = f"<{inner_tag}> stands twice in <{tag}>; only this last one counts"
            scope.found(5, inner, message, severity=severity)
        seen[inner_tag] = inner
        if key is not None and kind not in _OWN_CODE and kind not in _HAS_DEFAULT_KEY:
            for name in key:
                if inner.get(name) is None:
                    scope.found(6, inner, f"<{inner_tag}> has no {name}")
        if inner_tag not in ("entry", "entry_set"):
            _element(scope, inner, _kind(inner))


def _unknown_attribute(scope: Scope, element: etree._Element, name: str, names: Set[str]) -> None:
    like = _similar(name, tuple(sorted(names)))
    if like is None:
        scope.found(3, element, f"<{element.tag}> has no attribute {shown(name)}")
    elif element.get(like) is not None:
        scope.found(3, element, f"<{element.tag}> has no attribute {shown(name)} (it has {like}, given too)")
    else:
        scope.found(2, element, f"<{element.tag}> has no attribute {shown(name)}", f"did you mean {like}?")


def _unknown_element(scope: Scope, element: etree._Element, inner: etree._Element, tags: Set[str]) -> None:
    like = _similar(str(inner.tag), tuple(sorted(tags)))
    remedy = f"did you mean <{like}>?" if like else ""
    scope.found(4, inner, f"<{element.tag}> has no element <{inner.tag}>", remedy)


@lru_cache(maxsize=1024)
def _similar(name: str, known: tuple[str, ...]) -> Optional[str]:
    # Longer names are no misspelling, and comparing them would take long.
    if len(name) > 40:
        return None
    found = difflib.get_close_matches(name.lower(), known, 1, 0.75)
    return found[0] if found else None
