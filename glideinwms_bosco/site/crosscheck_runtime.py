# SPDX-License-Identifier: Apache-2.0
"""Checks of the `runtime` block, and of files with `submission: external`, which have little else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.model import Entry, SiteDescription
from glideinwms_bosco.site.runtime import Runtime

_OWN_PREFIX = "GWMS_BOSCO_"
# What a file with `submission: external` can say; all else stands in the entry's own file.
_EXTERNAL_FIELDS = frozenset(("site", "submission", "enabled", "entries", "runtime"))
_EXTERNAL_ENTRY_FIELDS = frozenset(("name", "file", "enabled"))


def check_runtime(site: SiteDescription) -> Iterator[Problem]:
    """Find what the runtime block lacks, and attributes of entries that work against it."""
    yield from _external(site)
    if site.runtime is None:
        return
    for field, message, hint, severity in _block(site.runtime):
        where = f"runtime.{field}"
        yield Problem(site.file, site.line(where), where, message, hint, severity)
    for i, entry in enumerate(site.entries):
        for field, name, value in _own_attrs(entry):
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


def _own_attrs(entry: Entry) -> Iterator[tuple[str, str, str]]:
    for attr in entry.attrs:
        yield "attrs", attr.name, attr.value
    for name, block in entry.raw.attrs:
        yield "raw.attrs", name, dict(block).get("value", "")


def _block(runtime: Runtime) -> Iterator[tuple[str, str, str, str]]:
    """Field below `runtime`, message, hint, severity."""
    if runtime.cvmfs is not None:
        for i, rung in enumerate(runtime.cvmfs.rungs):
            lacking = runtime.lacks(rung)
            if lacking is not None:
                yield f"cvmfs.rungs[{i}]", f"{rung} needs runtime.{lacking}", "set it, or remove the rung", "error"
        named = runtime.cvmfs.rungs
        if runtime.cvmfs.parrot is not None and named and "parrot" not in named:
            yield "cvmfs.parrot", "has no effect: parrot is not among the rungs", "add or remove it", "warning"
        if runtime.rungs() == ("native",) and not named:
            message = "only a /cvmfs that the node has itself can be used; there is no cvmfsexec and no parrot"
            yield "cvmfs", message, "set cvmfsexec, or say rungs: [native]", "warning"
        if (runtime.cvmfs.cache or "").startswith("image:"):
            message = "a cache in an ext4 image is not supported: no pilot script mounts one"
            yield "cvmfs.cache", message, "name a local disk (local:DIR) or ram; never a shared file system", "error"
        if runtime.cvmfs.cache == "ram" and runtime.cvmfs.quota_mb is None:
            yield "cvmfs.cache", "a cache in RAM has no quota_mb", "set one that the pilot's memory allows", "warning"
    elif runtime.payload_cvmfs != "always":
        yield "payload", "has no effect without runtime.cvmfs", "add cvmfs", "warning"
    container = runtime.container
    if container is not None and container.mode != "never":
        for name in ("image", "sha256"):
            if getattr(container, name) is None:
                yield f"container.{name}", f"missing, and mode is {container.mode}", "add it", "error"
    credentials = runtime.credentials
    if credentials is not None:
        if "shipped" in credentials.ca and credentials.ca_dir is None:
            yield "credentials.ca", "shipped needs runtime.credentials.ca_dir", "name the folder", "error"
        if credentials.ca_dir is not None and "shipped" not in credentials.ca:
            yield "credentials.ca_dir", "has no effect: shipped is not in ca", "add or remove it", "warning"
        if credentials.ca == ("cvmfs",) and runtime.cvmfs is None:
            yield "credentials.ca", "cvmfs needs runtime.cvmfs", "add it, or another place", "error"


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
