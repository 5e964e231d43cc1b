# SPDX-License-Identifier: Apache-2.0
"""Checks that need more than one field of a site file, or more than one site file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Optional

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import Attr, Entry, Limits, SiteDescription

# Source: keys glideinWMS writes itself into job.condor; a second one stops reconfig for the whole factory
# (glideinWMS 3.10 creation/lib/cgWCreate.py, GlideinSubmitDictFile.populate and .add).
RESERVED_SUBMIT_ATTRS = frozenset(
    (
        "universe",
        "grid_resource",
        "executable",
        "arguments",
        "environment",
        "transfer_input_files",
        "encrypt_input_files",
        "copy_to_spool",
        "+scitokensfile",
        "log",
        "output",
        "error",
        "queue",
        "notification",
        "should_transfer_files",
        "when_to_transfer_output",
        "transfer_executable",
        "stream_output",
        "stream_error",
        "periodic_remove",
        "x509userproxy",
        "use_x509userproxy",
        "transfer_output_files",
        "whentotransferoutput",
        "leavejobinqueue",
        "job_ad_information_attrs",
        "+glideinclient",
        "+glideincredentialidentifier",
        "+glideinentryname",
        "+glideinentrysubmitfile",
        "+glideinfactory",
        "+glideinfrontendname",
        "+glideinlognr",
        "+glideinmaxwalltime",
        "+glideinname",
        "+glideinoverloadenabled",
        "+glideinproxyurl",
        "+glideinsecurityclass",
        "+glideinslotslayout",
        "+glideinwebbase",
        "+glideinworkdir",
        "+owner",
        "+fename",
    )
)

# What blahp puts unquoted on a command line has a field of its own with a strict pattern. All spellings: the submit
# command, and the job attribute that it sets. Source: HTCondor 23.9 condor_submit and blahpd's table of attributes.
TYPED_SUBMIT_ATTRS = {
    "batch_queue": "batch.queue",
    "batchqueue": "batch.queue",
    "remote_queue": "batch.queue",
    "remote_batch_queue": "batch.queue",
    "batch_project": "batch.project",
    "batchproject": "batch.project",
    "batch_extra_submit_args": "batch.extra_args",
    "batchextrasubmitargs": "batch.extra_args",
}

# glideinWMS puts published values into `eval "$var='value'"` and, unescaped, between double quotes of condor_config
# (3.10 creation/web_base/condor_startup.sh, set_var).
_UNSAFE_IN_PILOT = re.compile(r"['\"`\\]|\$\(")

MAX_ATTR_CHARS = 16_384
"""Of one attribute; it goes through shell variables, condor_config and ClassAds."""


def check_site(site: SiteDescription) -> tuple[Problem, ...]:
    """Find what fields of one site say against each other, errors and warnings, in the order of the file."""
    problems = [
        *_short_name(site),
        *_accounts(site),
        *_host_keys(site),
        *_batch(site),
        *_overrides(site),
        *_entries(site),
    ]
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.field)))


def check_together(sites: Sequence[SiteDescription]) -> tuple[Problem, ...]:
    """Find names that two site files use both: the later file would silently replace the earlier one's entries.

    Source: glideinWMS 3.10 creation/lib/xmlConfig.py, ListElement.merge.
    """
    problems: list[Problem] = []
    short_names: dict[str, str] = {}
    entry_names: dict[str, str] = {}
    for site in sites:
        first = short_names.setdefault(site.short_name, site.file)
        if first != site.file:
            problems.append(_at(site, "", f"has the same short name as {first}", "rename one of the two files"))
        for i, entry in enumerate(site.entries):
            here = f"{site.file}:{site.line(f'entries[{i}].name')}"
            other = entry_names.setdefault(entry.name, here)
            if other != here and not other.startswith(f"{site.file}:"):
                message = f"entry {entry.name!r} also stands at {other}"
                problems.append(_at(site, f"entries[{i}].name", message, "entry names are unique in a factory"))
    return tuple(problems)


def _at(site: SiteDescription, field: str, message: str, hint: str, severity: str = "error") -> Problem:
    return Problem(site.file, site.line(field), field, message, hint, severity)


def _short_name(site: SiteDescription) -> Iterator[Problem]:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", site.short_name):
        yield _at(
            site,
            "",
            f"the file's name {site.short_name!r} names the site in commands and in config.d and has "
            "unusual characters",
            "use letters, digits, dot, dash, underscore",
        )


def _accounts(site: SiteDescription) -> Iterator[Problem]:
    seen: set[str] = set()
    for i, account in enumerate(site.accounts):
        where = f"accounts[{i}]"
        if account.name in seen:
            yield _at(site, where, f"account {account.name!r} stands twice", "give one of them another `name`")
        seen.add(account.name)
        if account.credential == "key_pair":
            host = f"@{site.login.host}" if site.login else ""
            message = f"the private key of {account.user}{host} will lie on the factory's disk"
            yield _at(site, where, message, "`credential: broker` keeps it at the frontend", "warning")
        if "." in account.user:
            message = f"remote_gahp of HTCondor before 25 refuses the user name {account.user!r} (it has a dot)"
            yield _at(site, f"{where}.user", message, "use HTCondor 25 on the factory", "warning")
    if len({account.user for account in site.accounts}) < len(site.accounts):
        yield _at(
            site,
            "accounts",
            "two accounts have the same user and would share one install folder",
            "list each remote user once",
        )


def _host_keys(site: SiteDescription) -> Iterator[Problem]:
    if site.login is None or not site.enabled or not any(entry.enabled for entry in site.entries):
        return
    stops = [("login", site.login.host, site.login.host_keys)]
    stops += [(f"login.jump_hosts[{i}]", jump.host, jump.host_keys) for i, jump in enumerate(site.login.jump_hosts)]
    for where, host, keys in stops:
        if not keys:
            yield _at(
                site,
                f"{where}.host_keys",
                f"no host key of {host} is pinned, and the site is enabled",
                f"`gwms-bosco site hostkeys {host}` proposes them",
            )


def _batch(site: SiteDescription) -> Iterator[Problem]:
    if site.batch.system == "sge" and "sge_rootpath" not in dict(site.batch.settings):
        yield _at(
            site,
            "batch.settings",
            "sge_rootpath is not set; an ssh session has no SGE_ROOT, so blahp looks in /usr/local/sge/pro",
            "set batch.settings.sge_rootpath and sge_cellname",
            "warning",
        )


def _overrides(site: SiteDescription) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, override in enumerate(site.install.overrides):
        where = f"install.overrides[{i}]"
        if (override.file is None) == (override.content is None):
            yield _at(site, where, "needs exactly one of file and content", "name a file, or write its text")
        if override.path in first:
            line = site.line(f"install.overrides[{first[override.path]}].path")
            yield _at(site, f"{where}.path", f"{override.path} stands twice (first on line {line})", "keep one")
        first.setdefault(override.path, i)


def _entries(site: SiteDescription) -> Iterator[Problem]:
    names: dict[str, int] = {}
    known = {account.name for account in site.accounts}
    for i, entry in enumerate(site.entries):
        where = f"entries[{i}]"
        if entry.name in names:
            first = site.line(f"entries[{names[entry.name]}].name")
            yield _at(
                site,
                f"{where}.name",
                f"entry {entry.name!r} stands twice (first on line {first})",
                "entry names are unique in a factory",
            )
        names.setdefault(entry.name, i)
        for j, name in enumerate(entry.accounts):
            if name not in known:
                yield _at(site, f"{where}.accounts[{j}]", f"no account {name!r}", f"known: {', '.join(sorted(known))}")
        yield from _limits(site, where, entry)
        yield from _attrs(site, where, entry)
        if entry.walltime_s is not None and entry.walltime_s <= entry.walltime_margin_s:
            yield _at(
                site,
                f"{where}.walltime",
                f"{entry.walltime_s} s is not more than the margin of "
                f"{entry.walltime_margin_s} s the pilot ends before the batch limit",
                "a longer walltime or a shorter walltime_margin",
            )
        if not site.external and entry.cpus is None and "GLIDEIN_CPUS" not in _attr_names(entry):
            yield _at(
                site,
                where,
                "neither `cpus` nor the attribute GLIDEIN_CPUS is set: the pilot offers one CPU",
                "set cpus",
                "warning",
            )


def _attr_names(entry: Entry) -> set[str]:
    return {attr.name for attr in entry.attrs} | {name for name, _ in entry.raw.attrs}


def _limits(site: SiteDescription, where: str, entry: Entry) -> Iterator[Problem]:
    blocks: list[tuple[str, Limits]] = [
        ("per_entry", entry.per_entry),
        ("default_per_frontend", entry.default_per_frontend),
        *((f"per_frontends.{name}", limits) for name, limits in entry.per_frontends),
    ]
    for name, limits in blocks:
        if limits.glideins is not None and limits.idle is not None and limits.idle > limits.glideins:
            yield _at(
                site,
                f"{where}.limits.{name}.idle",
                f"{limits.idle} idle pilots are more than the {limits.glideins} glideins allowed",
                "lower idle or raise glideins",
            )


def _attrs(site: SiteDescription, where: str, entry: Entry) -> Iterator[Problem]:
    for attr in entry.attrs:
        for message, hint in attr_findings(attr):
            yield _at(site, f"{where}.attrs.{attr.name}", message, hint)
    for name, value in entry.submit_attrs:
        for message, hint in submit_attr_findings(name, value):
            yield _at(site, f"{where}.submit_attrs.{name}", message, hint)


def attr_findings(attr: Attr) -> Iterator[tuple[str, str]]:
    """Find what makes an attribute unusable: message and hint."""
    if attr.value == "":
        yield "is empty", "give it a value or remove it"
    if len(attr.value) > MAX_ATTR_CHARS:
        yield f"is longer than {MAX_ATTR_CHARS} characters", "ship it as a file"
    unsafe = None if attr.type == "expr" else _UNSAFE_IN_PILOT.search(attr.value)
    if unsafe:
        yield (
            f"{unsafe[0]!r} in the value would break the pilot's shell scripts or its HTCondor configuration",
            "remove it",
        )
    if attr.type == "expr" and "'" in attr.value:
        yield "a single quote would break the pilot's shell scripts", "use double quotes"
    if attr.type == "int" and not re.fullmatch(r"-?[0-9]+", attr.value):
        yield f"{attr.value!r} is no whole number", "reconfig refuses it; change value or type"
    # Source: glideinWMS 3.10 creation/lib/factoryXmlConfig.py, AttrElement.validate.
    if attr.publish is False and (attr.const is False or attr.parameter is False):
        yield "publish: false needs const: true and parameter: true", "reconfig refuses it"
    if attr.publish is not False and attr.const is False and attr.parameter is False:
        yield "a published attribute needs const or parameter to be true", "reconfig refuses it"


def submit_attr_findings(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Find what makes a submit attribute unusable: message and hint."""
    if name.lower() in RESERVED_SUBMIT_ATTRS:
        yield "glideinWMS writes this line itself; a second one stops reconfig", "remove it"
    field = typed_field(name)
    if field is not None:
        yield "reaches a command line and is not checked here", f"use `{field}` instead"
    if value == "":
        yield "is empty", "give it a value or remove it"


def typed_field(name: str) -> Optional[str]:
    """The field of the site file that a submit attribute belongs into, if it has one of its own."""
    return TYPED_SUBMIT_ATTRS.get(name.lower().lstrip("+"))
