# SPDX-License-Identifier: Apache-2.0
"""What an entry asks of the batch system, and the grid resource its pilots are submitted to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Optional

from glideinwms_bosco.batch import Finding, ResourceRequest, batch_system
from glideinwms_bosco.errors import EntryError, Problem
from glideinwms_bosco.site.model import DEFAULT_SSH_PORT, Account, Entry, SiteDescription

# remote_gahp's options are split at blanks by the gridmanager, so a key path cannot have one.
_KEY_PATH = re.compile(r"[A-Za-z0-9_.,:@%+=/~-]+")


def resource_request(site: SiteDescription, entry: Entry) -> ResourceRequest:
    """The request of one entry, with the site's queue, project and extra arguments where it has none of its own."""
    return ResourceRequest(
        cpus=entry.cpus,
        memory_mb=entry.memory_mb,
        walltime_s=entry.walltime_s,
        nodes=entry.nodes,
        gpus=entry.gpus,
        whole_node=entry.whole_node,
        queue=entry.queue or site.batch.queue,
        project=entry.project or site.batch.project,
        constraint=entry.constraint or site.batch.constraint,
        reservation=entry.reservation or site.batch.reservation,
        qos=entry.qos or site.batch.qos,
        extra_args=site.batch.extra_args + entry.extra_args,
    )


def submit_attrs(site: SiteDescription, entry: Entry) -> tuple[tuple[str, str], ...]:
    """All submit attributes of an entry: the batch system's in its order, then the operator's own by name.

    Raises:
        BatchError: the batch system cannot express the request.
    """
    if not entry.raw.derive:
        return entry.submit_attrs
    derived = batch_system(site.batch.system).submit_attrs(resource_request(site, entry))
    return (*((attr.name, attr.value) for attr in derived), *entry.submit_attrs)


def submit_problems(site: SiteDescription) -> tuple[Problem, ...]:
    """Find requests that the batch system cannot express, and submit attributes that come out twice."""
    if site.external:
        return ()
    adapter = batch_system(site.batch.system)
    problems = []
    for i, entry in enumerate(site.entries):
        if not entry.raw.derive:
            continue
        where = f"entries[{i}]"
        findings = adapter.findings(resource_request(site, entry))
        problems += [_problem(site, where, finding) for finding in findings]
        if any(finding.severity == "error" for finding in findings):
            continue
        derived = {submit_attribute(attr.name) for attr in adapter.submit_attrs(resource_request(site, entry))}
        own = [(f"{where}.submit_attrs.{name}", name) for name, _ in entry.submit_attrs]
        own += [(f"{where}.raw.submit_attrs.{name}", name) for name, _ in entry.raw.submit_attrs]
        for field, name in own:
            if submit_attribute(name) in derived:
                message = "also follows from the entry's own fields; a second one stops reconfig for the whole factory"
                problems.append(Problem(site.file, site.line(field), field, message, "remove one of them"))
    return tuple(problems)


def submit_attribute(name: str) -> str:
    """The job attribute that a submit attribute sets: `request_memory` and `+RequestMemory` are the same one."""
    return name.lower().lstrip("+").replace("_", "")


def _problem(site: SiteDescription, where: str, finding: Finding) -> Problem:
    field = f"{where}.{finding.field}"
    if finding.field in ("queue", "project", "constraint", "reservation", "qos", "extra_args"):
        field = (
            f"{where}.batch.{finding.field}"
            if f"{where}.batch.{finding.field}" in site.lines
            else (f"batch.{finding.field}")
        )
    return Problem(site.file, site.line(field), field, finding.message, finding.hint, finding.severity)


def gatekeeper(site: SiteDescription, account: Account) -> str:
    """`user@host[:port]`, the form remote_gahp reads.

    Raises:
        SiteError: the site has no login host.
    """
    login = site.required_login()
    port = "" if login.port == DEFAULT_SSH_PORT else f":{login.port}"
    return f"{account.user}@{login.host}{port}"


def gridtype(site: SiteDescription) -> str:
    """`batch slurm` and the like."""
    return f"batch {site.batch.system}"


def grid_resource(site: SiteDescription, account: Account, key_file: Optional[Path]) -> str:
    """The Grid_Resource line that the factory's submit file will have for this account.

    Args:
        key_file: the private key (or handle) the factory hands to remote_gahp; None: whatever ssh finds by itself.

    Source: glideinWMS 3.10 creation/lib/cgWCreate.py (Grid_Resource of batch entries) and
    factory/glideFactoryLib.py (GRID_RESOURCE_OPTIONS).

    Raises:
        EntryError: the path of the key has a character that HTCondor would split or interpret.
    """
    parts = [gridtype(site)]
    if key_file is None:
        parts.append("--rgahp-nokey")
    elif _KEY_PATH.fullmatch(str(key_file)):
        parts.append(f"--rgahp-key {key_file} --rgahp-nopass")
    else:
        raise EntryError(
            f"the path of the key, {str(key_file)!r}, has a blank or special character",
            "remote_gahp cannot take it; move the key",
        )
    if site.install.bosco_dir is not None:
        parts.append(f"--rgahp-glite ~/{site.install.bosco_dir}/glite")
    parts.append(gatekeeper(site, account))
    return " ".join(parts)
