# SPDX-License-Identifier: Apache-2.0
"""Checks of the `runtime` block, and of files with `submission: external`, which have little else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.crosscheck_web_proxies import web_proxy_findings
from glideinwms_bosco.site.job_wrapper import (
    RUNGS_BEFORE,
    cvmfs_is_before,
    needs_job_wrapper,
    pilot_rungs,
    whole_pilot_image,
    wrapper_rungs,
)
from glideinwms_bosco.site.model import Entry, SiteDescription
from glideinwms_bosco.site.runtime import Credentials, Runtime

_JOB_WRAPPER = "blah_job_wrapper"
_OWN_PREFIX = "GWMS_BOSCO_"
# Those whose client finds its cache in an image: cvmfsexec mounts one in mode 3, the pilot's scripts in 2 and 1.
_IMAGE_RUNGS = frozenset(("userns", "fusermount", "mountrepo"))
# What a file with `submission: external` can say; all else stands in the entry's own file.
_EXTERNAL_FIELDS = frozenset(("site", "submission", "enabled", "entries", "runtime"))
_EXTERNAL_ENTRY_FIELDS = frozenset(("name", "file", "enabled"))


def check_runtime(site: SiteDescription) -> Iterator[Problem]:
    """Find what the runtime block lacks, and attributes of entries that work against it."""
    yield from _external(site)
    if site.runtime is None:
        return
    for field, message, hint, severity in (*_block(site, site.runtime), *_whole_pilot(site), *web_proxy_findings(site)):
        where = f"runtime.{field}"
        yield Problem(site.file, site.line(where), where, message, hint, severity)
    for i, entry in enumerate(site.entries):
        for field, name, value in own_attrs(entry):
            for message, hint in conflicts(site.runtime, ((name, value),)):
                where = f"entries[{i}].{field}.{name}"
                yield Problem(site.file, site.line(where), where, message, hint)


def conflicts(runtime: Runtime, attrs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Find attributes of an entry (name, value) that would undo what the runtime block says: message and hint."""
    for name, value in attrs:
        if name.startswith(_OWN_PREFIX):
            yield f"{name} is set from the runtime block", "say it there, and remove this one"
        elif name == "GLIDEIN_WRAPPER_EXEC" and value:
            yield (
                "GLIDEIN_WRAPPER_EXEC starts payloads in its own way, and the pilot scripts could not in theirs",
                "remove it; runtime.cvmfs.parrot runs them under parrot",
            )
        elif name == "GLIDEIN_USE_CVMFSEXEC" and value != "0" and runtime.cvmfs is not None:
            yield "glideinWMS's own cvmfsexec would mount CVMFS a second time", "remove it, or runtime.cvmfs"
        elif (
            name == "GLIDEIN_SINGULARITY_REQUIRE"
            and value != "NEVER"
            and runtime.container is not None
            and not runtime.container.nested
        ):
            yield f"{value} asks for containers, and runtime.container.nested is false", "remove one of the two"


def own_attrs(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """Attributes of an entry: where below it, name, value."""
    for attr in entry.attrs:
        yield "attrs", attr.name, attr.value
    for name, block in entry.raw.attrs:
        yield "raw.attrs", name, dict(block).get("value", "")


def _block(site: SiteDescription, runtime: Runtime) -> Iterator[tuple[str, str, str, str]]:
    """Field below `runtime`, message, hint, severity."""
    if runtime.cvmfs is not None:
        for i, rung in enumerate(runtime.cvmfs.rungs):
            lacking = runtime.lacks(rung)
            if lacking is not None and not (cvmfs_is_before(site) and rung in RUNGS_BEFORE):
                yield f"cvmfs.rungs[{i}]", f"{rung} needs runtime.{lacking}", "set it, or remove the rung", "error"
        named = runtime.cvmfs.rungs
        if runtime.cvmfs.parrot is not None and named and "parrot" not in named:
            yield "cvmfs.parrot", "has no effect: parrot is not among the rungs", "add or remove it", "warning"
        tried = {*runtime.rungs(), *wrapper_rungs(site)}
        if tried == {"native"} and not named:
            message = "only a /cvmfs that the node has itself can be used; there is no cvmfsexec and no parrot"
            yield "cvmfs", message, "set cvmfsexec, or say rungs: [native]", "warning"
        if (runtime.cvmfs.cache or "").startswith("image:") and not _IMAGE_RUNGS & tried:
            message = "no way to /cvmfs of this site can have its cache in an image"
            yield "cvmfs.cache", message, f"allow one of {', '.join(sorted(_IMAGE_RUNGS))}, or remove it", "error"
        if runtime.cvmfs.cache == "ram" and runtime.cvmfs.quota_mb is None:
            yield "cvmfs.cache", "a cache in RAM has no quota_mb", "set one that the pilot's memory allows", "warning"
    elif runtime.payload_cvmfs != "always":
        yield "payload", "has no effect without runtime.cvmfs", "add cvmfs", "warning"
    container = runtime.container
    if container is not None and (container.mode != "never" or "container" in runtime.rungs()):
        why = f"mode is {container.mode}" if container.mode != "never" else "it is a rung to /cvmfs"
        for name in ("image", "sha256"):
            if getattr(container, name) is None:
                yield f"container.{name}", f"missing, and {why}", "add it", "error"
    if runtime.credentials is not None:
        yield from _credentials(runtime.credentials, runtime, pilot_rungs(site))


def _credentials(
    credentials: Credentials, runtime: Runtime, rungs: tuple[str, ...]
) -> Iterator[tuple[str, str, str, str]]:
    if "shipped" in credentials.ca and credentials.ca_dir is None:
        yield "credentials.ca", "shipped needs runtime.credentials.ca_dir", "name the folder", "error"
    if credentials.ca_dir is not None and "shipped" not in credentials.ca:
        yield "credentials.ca_dir", "has no effect: shipped is not in ca", "add or remove it", "warning"
    if credentials.ca != ("cvmfs",):
        return
    if runtime.cvmfs is None:
        yield "credentials.ca", "cvmfs needs runtime.cvmfs", "add it, or another place", "error"
    elif runtime.payload_cvmfs != "always" and rungs != ("native",):
        message = (
            f"payload.cvmfs is {runtime.payload_cvmfs}, so only a /cvmfs that the node has itself is for all payloads"
        )
        yield "credentials.ca", message, "add another place", "warning" if "native" in rungs else "error"


def _whole_pilot(site: SiteDescription) -> Iterator[tuple[str, str, str, str]]:
    """Say what `mode: pilot` leaves to the operator where no bundle has the job wrapper."""
    if whole_pilot_image(site) is None:
        return
    if not needs_job_wrapper(site):
        program = f"`gwms-bosco pilot pack pilot_container --site {site.short_name}`"
        message = "pilots run in the image only where the batch job is started by pilot_container, which no entry does"
        yield (
            "container.mode",
            message,
            f"bring {program} to the nodes and have the batch system run jobs by it",
            "warning",
        )
    elif site.network is None and _JOB_WRAPPER in dict(site.batch.settings):
        message = f"the bundle starts pilots in the image, and batch.settings.{_JOB_WRAPPER} would be in its place"
        yield "container.mode", message, f"remove {_JOB_WRAPPER}", "error"


def _external(site: SiteDescription) -> Iterator[Problem]:
    if not site.external:
        for i, entry in enumerate(site.entries):
            if entry.file is not None:
                where = f"entries[{i}].file"
                hint = "set submission: external, or remove it"
                yield Problem(site.file, site.line(where), where, "has no effect without submission: external", hint)
        return
    hint = "it stands where the entry is defined; remove it here"
    for path in site.lines:
        if path.isidentifier() and path not in _EXTERNAL_FIELDS:
            yield Problem(site.file, site.line(path), path, "has no place with submission: external", hint)
    for i in range(len(site.entries)):
        start = f"entries[{i}]."
        for path in site.lines:
            field = path[len(start) :]
            if path.startswith(start) and field.isidentifier() and field not in _EXTERNAL_ENTRY_FIELDS:
                yield Problem(site.file, site.line(path), path, "has no place with submission: external", hint)
