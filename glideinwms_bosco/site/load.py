# SPDX-License-Identifier: Apache-2.0
"""Load site files: YAML, schema and cross-field checks in one run, all findings together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from glideinwms_bosco.errors import Problem, SiteError, SiteFileError
from glideinwms_bosco.json_file import PathKey, dotted
from glideinwms_bosco.site import crosscheck
from glideinwms_bosco.site.crosscheck_network import check_network
from glideinwms_bosco.site.crosscheck_raw import check_raw
from glideinwms_bosco.site.crosscheck_runtime import check_runtime
from glideinwms_bosco.site.crosscheck_siteconf import check_siteconf
from glideinwms_bosco.site.crosscheck_web_proxies import web_proxy_problems
from glideinwms_bosco.site.model import (
    DEFAULT_SSH_PORT,
    DEFAULT_WALLTIME_MARGIN_S,
    Account,
    AllowFrontend,
    Attr,
    AttrValue,
    Batch,
    Entry,
    Install,
    JumpHost,
    Limits,
    Login,
    Override,
    Pace,
    Raw,
    Restrictions,
    SiteDescription,
    Submit,
)
from glideinwms_bosco.site.network import network_of
from glideinwms_bosco.site.runtime import runtime_of
from glideinwms_bosco.site.schema import schema_problems, site_schema
from glideinwms_bosco.site.source import HTCondorSource
from glideinwms_bosco.site.walltime import parse_walltime
from glideinwms_bosco.site.yaml_source import YamlSource

# Of a site with `submission: external`; nothing reads it.
_NO_BATCH = {"system": "condor"}
# Blocks of an entry that `defaults` fills field by field; any other value replaces the default whole.
_MERGED = ("batch", "limits", "release", "remove", "restrictions", "submit", "attrs", "submit_attrs")


def load_site(path: Path) -> tuple[SiteDescription, tuple[Problem, ...]]:
    """Read one site file.

    Returns:
        The description, and the warnings.

    Raises:
        SiteFileError: with all errors of the file (and its warnings).
    """
    site = describe_site(path)
    findings = tuple(
        sorted(
            (
                *crosscheck.check_site(site),
                *check_raw(site),
                *check_runtime(site),
                *check_siteconf(site),
                *check_network(site),
            ),
            key=lambda problem: (problem.line, problem.field),
        )
    )
    if any(problem.severity == "error" for problem in findings):
        raise SiteFileError(findings)
    return site, findings


def describe_site(path: Path) -> SiteDescription:
    """Read one site file that each field alone makes sense of; what fields say against each other is not checked.

    Raises:
        SiteFileError: with all errors that the schema finds.
    """
    source = YamlSource(path, _is_script)
    if not source.data:
        hint = "docs/recipes.md has site files to begin with"
        raise SiteFileError((Problem(source.file, 1, "", "describes no site", hint),))
    problems = schema_problems(source)
    if isinstance(source.data, dict):
        problems += _login_problems(source) + _walltime_problems(source)
    problems = problems or _htcondor_problems(source) + web_proxy_problems(source)
    if problems:
        raise SiteFileError(tuple(problems))
    return _site(source)


def _is_script(path: PathKey) -> bool:
    return path[:2] == ("install", "overrides") and path[3:] == ("content",)


def htcondor_sources(value: Any) -> tuple[HTCondorSource, ...]:
    """Read `htcondor` of a file that the schema has accepted: one source, or a list of them.

    Raises:
        SiteError: one cannot be used.
    """
    return tuple(HTCondorSource(**item) for item in (value if isinstance(value, list) else [value]))


def _htcondor_problems(source: YamlSource) -> list[Problem]:
    """What the schema cannot say of HTCondor sources."""
    value = source.data.get("install", {}).get("htcondor", [])
    problems = []
    for i, item in enumerate(value if isinstance(value, list) else [value]):
        where = ("install", "htcondor", i) if isinstance(value, list) else ("install", "htcondor")
        try:
            HTCondorSource(**item)
        except SiteError as err:
            problems.append(Problem(source.file, source.line(where), dotted(where), err.message, err.hint))
    return problems


def load_sites(paths: Iterable[Path]) -> tuple[tuple[SiteDescription, ...], tuple[Problem, ...]]:
    """Read several site files and check them against each other too.

    Raises:
        SiteFileError: with all problems of all files.
    """
    sites: list[SiteDescription] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            site, warnings = load_site(path)
        except SiteFileError as err:
            problems.extend(err.problems)
        else:
            sites.append(site)
            problems.extend(warnings)
    problems.extend(crosscheck.check_together(sites))
    if any(problem.severity == "error" for problem in problems):
        raise SiteFileError(tuple(problems))
    return tuple(sites), tuple(problems)


def _login_problems(source: YamlSource) -> list[Problem]:
    """What the schema lets a file with imported entries leave out, and no other."""
    data = source.data if isinstance(source.data, dict) else {}
    entries = data.get("entries")
    if data.get("submission") == "external":
        return []
    if isinstance(entries, list) and any(isinstance(entry, dict) and "raw" in entry for entry in entries):
        return []
    fields = site_schema()["properties"]
    return [
        Problem(source.file, 1, name, "missing", f"add it; it is: {fields[name]['description']}")
        for name in ("login", "accounts")
        if name not in data
    ]


def _walltime_problems(source: YamlSource) -> list[Problem]:
    """Wall times of the right form and of a wrong size: what a pattern cannot say."""
    problems = []
    data = source.data if isinstance(source.data, dict) else {}
    entries = data.get("entries")
    blocks: list[tuple[tuple[Any, ...], Any]] = [(("defaults",), data.get("defaults"))]
    blocks += [(("entries", i), entry) for i, entry in enumerate(entries if isinstance(entries, list) else [])]
    for path, block in blocks:
        for name in ("walltime", "walltime_margin"):
            value = block.get(name) if isinstance(block, dict) else None
            if not isinstance(value, str):
                continue
            try:
                parse_walltime(value)
            except SiteError as err:
                if "is no usable" in err.message:
                    where = (*path, name)
                    problems.append(Problem(source.file, source.line(where), dotted(where), err.message, err.hint))
    return problems


def _site(source: YamlSource) -> SiteDescription:
    data = source.data
    defaults: Mapping[str, Any] = data.get("defaults", {})
    return SiteDescription(
        name=data["site"],
        resource=data.get("resource", data["site"]),
        trust_domain=data.get("trust_domain", ""),
        login=_login(data["login"]) if "login" in data else None,
        accounts=tuple(Account(**{"name": account["user"], **account}) for account in data.get("accounts", ())),
        batch=_batch(data.get("batch", _NO_BATCH)),
        entries=tuple(_entry(_merged(defaults, own)) for own in data["entries"]),
        enabled=data.get("enabled", True),
        cms_site=data.get("cms_site"),
        country=data.get("country"),
        region=data.get("region"),
        supported_vos=tuple(data.get("supported_vos", ())),
        install=_install(data.get("install", {})),
        external=data.get("submission") == "external",
        runtime=runtime_of(data["runtime"], "web_proxy" in data.get("network", {})) if "runtime" in data else None,
        network=network_of(data["network"], data.get("login", {}).get("host_keys", ())) if "network" in data else None,
        file=source.file,
        lines=_lines(source),
    )


def _lines(source: YamlSource) -> dict[str, int]:
    """Dotted path -> line; what an entry takes from `defaults` stands where `defaults` says it."""
    lines = {dotted(path): line for path, line in source.lines()}
    inherited = [(path[1:], line) for path, line in source.lines() if path[:1] == ("defaults",) and len(path) > 1]
    for i in range(len(source.data["entries"])):
        for path, line in inherited:
            lines.setdefault(dotted(("entries", i, *path)), line)
    return lines


def _login(data: Mapping[str, Any]) -> Login:
    jumps = tuple(
        JumpHost(jump["host"], jump.get("port", DEFAULT_SSH_PORT), jump.get("user"), tuple(jump.get("host_keys", ())))
        for jump in data.get("jump_hosts", ())
    )
    limits = {name: data[name] for name in ("max_connections", "connections_per_minute") if name in data}
    return Login(data["host"], data.get("port", DEFAULT_SSH_PORT), tuple(data.get("host_keys", ())), jumps, **limits)


def _batch(data: Mapping[str, Any]) -> Batch:
    return Batch(
        system=data["system"],
        queue=data.get("queue"),
        project=data.get("project"),
        constraint=data.get("constraint"),
        reservation=data.get("reservation"),
        qos=data.get("qos"),
        extra_args=tuple(data.get("extra_args", ())),
        bin_path=data.get("bin_path"),
        settings=tuple(sorted(data.get("settings", {}).items())),
    )


def _install(data: Mapping[str, Any]) -> Install:
    overrides = tuple(
        Override(item["path"], item.get("file"), item.get("content"), int(item["mode"], 8) if "mode" in item else None)
        for item in data.get("overrides", ())
    )
    return Install(data.get("bosco_dir"), htcondor_sources(data.get("htcondor", [])), overrides)


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **own}
    for name in _MERGED:
        if name in defaults and name in own:
            merged[name] = {**defaults[name], **own[name]}
    return merged


def _entry(data: Mapping[str, Any]) -> Entry:
    batch, limits = data.get("batch", {}), data.get("limits", {})
    plain = (
        "file",
        "enabled",
        "comment",
        "cpus",
        "memory_mb",
        "nodes",
        "gpus",
        "whole_node",
        "work_dir",
        "proxy_url",
        "verbosity",
        "rsl",
        "schedd_name",
    )
    margin = data.get("walltime_margin")
    return Entry(
        name=data["name"],
        accounts=tuple(data.get("accounts", ())),
        walltime_s=parse_walltime(data["walltime"]) if "walltime" in data else None,
        walltime_margin_s=parse_walltime(margin) if margin else DEFAULT_WALLTIME_MARGIN_S,
        queue=batch.get("queue"),
        project=batch.get("project"),
        constraint=batch.get("constraint"),
        reservation=batch.get("reservation"),
        qos=batch.get("qos"),
        extra_args=tuple(batch.get("extra_args", ())),
        per_entry=Limits(**limits.get("per_entry", {})),
        default_per_frontend=Limits(**limits.get("default_per_frontend", {})),
        per_frontends=tuple((name, Limits(**block)) for name, block in sorted(limits.get("per_frontends", {}).items())),
        release=Pace(**data.get("release", {})),
        remove=Pace(**data.get("remove", {})),
        restrictions=Restrictions(**data.get("restrictions", {})),
        submit=Submit(**data.get("submit", {})),
        attrs=tuple(_attr(name, value) for name, value in sorted(data.get("attrs", {}).items())),
        submit_attrs=tuple((name, as_text(value)) for name, value in sorted(data.get("submit_attrs", {}).items())),
        allow_frontends=tuple(AllowFrontend(**item) for item in data.get("allow_frontends", ())),
        raw=_raw(data.get("raw", {})),
        **{name: data[name] for name in plain if name in data},
    )


def _raw(data: Mapping[str, Any]) -> Raw:
    return Raw(
        derive=data.get("derive", True),
        attributes=tuple(sorted(data.get("attributes", {}).items())),
        attrs=tuple((name, tuple(sorted(block.items()))) for name, block in sorted(data.get("attrs", {}).items())),
        submit_attrs=tuple(sorted(data.get("submit_attrs", {}).items())),
        children=tuple(data.get("children", ())),
    )


def _attr(name: str, data: Any) -> Attr:
    block = data if isinstance(data, dict) else {"value": data}
    kind = block.get("type") or ("int" if type(block["value"]) is int else None)
    return Attr(**{**block, "name": name, "value": as_text(block["value"]), "type": kind})


def as_text(value: AttrValue) -> str:
    """Write a YAML scalar as glideinWMS spells it: True and False with a capital."""
    return str(value)
