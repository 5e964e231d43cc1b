# SPDX-License-Identifier: Apache-2.0
"""Find the request (cpus, wall time, queue ...) whose rendering is exactly the submit attributes an entry has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any, Optional

from glideinwms_bosco.batch import ResourceRequest, batch_system
from glideinwms_bosco.entry.submit import submit_attribute
from glideinwms_bosco.errors import BatchError, SiteError
from glideinwms_bosco.site.crosscheck_raw import split_extra_args
from glideinwms_bosco.site.model import DEFAULT_WALLTIME_MARGIN_S
from glideinwms_bosco.site.schema import fits
from glideinwms_bosco.site.walltime import parse_walltime

_MAX_DIGITS = 9
# Field -> the attribute that follows from it; an entry without that attribute must not get it.
_PUBLISHED = {
    "cpus": "GLIDEIN_CPUS",
    "memory_mb": "GLIDEIN_MaxMemMBs",
    "gpus": "GLIDEIN_Resource_Slots",
    "walltime_s": "GLIDEIN_Max_Walltime",
}


def whole(text: Optional[str]) -> Optional[int]:
    """The number, if writing it again gives the same text."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS or str(int(text)) != text:
        return None
    return int(text)


def find_request(system: str, submit: Mapping[str, str], attrs: Set[str]) -> tuple[ResourceRequest, frozenset[str]]:
    """Invert a batch adapter as far as it goes.

    Args:
        system: name of the batch system.
        submit: all submit attributes of the entry.
        attrs: names of its attributes.

    Returns:
        The request, and the names of the submit attributes that it stands for.
    """
    adapter = batch_system(system)
    request, taken = ResourceRequest(), frozenset[str]()
    spellings = [submit_attribute(name) for name in submit]
    for part in _parts(system, submit):
        if any(name in part and published not in attrs for name, published in _PUBLISHED.items()):
            continue
        wider = replace(request, **part)
        try:
            rendered = {attr.name: attr.value for attr in adapter.submit_attrs(wider)}
        except BatchError:
            continue
        same = all(submit.get(name) == value for name, value in rendered.items())
        once = all(spellings.count(submit_attribute(name)) == 1 for name in rendered)
        if same and once and len(rendered) > len(taken):
            request, taken = wider, frozenset(rendered)
    return request, taken


def _parts(system: str, submit: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the submit attributes may come from, field by field, each of a form the site file takes."""
    yield from (part for part in _sizes(submit) if all(fits((name,), value) for name, value in part.items()))
    for field, name in (("memory_mb", "request_memory"), ("gpus", "request_gpus")):
        number = whole(submit.get(name))
        if number and fits((field,), number):
            yield {field: number}
    walltime = whole(submit.get("batch_runtime"))
    if walltime and walltime > DEFAULT_WALLTIME_MARGIN_S and _is_time(walltime):
        yield {"walltime_s": walltime}
    for field, name in (("queue", "batch_queue"), ("project", "batch_project")):
        if name in submit and fits(("batch", field), submit[name]):
            yield {field: submit[name]}
    text = submit.get("batch_extra_submit_args", "")
    args = split_extra_args(text[3:] if system == "sge" and text.startswith("#$ ") else text)
    if text and fits(("batch", "extra_args"), args):
        yield {"extra_args": tuple(args)}


def _sizes(submit: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    tasks = whole(submit.get("+NodeNumber"))
    per_node = whole(submit.get("+SMPGranularity")) or tasks
    nodes = whole(submit.get("+HostNumber"))
    if per_node and nodes and submit.get("+WholeNodes") == "True":
        yield {"cpus": per_node, "nodes": nodes, "whole_node": True}
    elif per_node and tasks:
        yield {"cpus": per_node, "nodes": tasks // per_node}


def _is_time(seconds: int) -> bool:
    """Tell whether a site file can say this time."""
    try:
        return parse_walltime(walltime_text(seconds)) == seconds
    except SiteError:
        return False


def walltime_text(seconds: int) -> str:
    """Write a wall time in its largest whole unit up to hours."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def request_fields(request: ResourceRequest, max_walltime: Optional[str]) -> dict[str, Any]:
    """The fields of an entry that make this request.

    Args:
        max_walltime: the entry's GLIDEIN_Max_Walltime; tells the margin to the batch system's limit.
    """
    fields: dict[str, Any] = {}
    default = ResourceRequest()
    for name in ("cpus", "memory_mb", "nodes", "gpus", "whole_node"):
        if getattr(request, name) != getattr(default, name):
            fields[name] = getattr(request, name)
    if request.walltime_s is not None:
        fields["walltime"] = walltime_text(request.walltime_s)
        margin = request.walltime_s - (whole(max_walltime) or 0)
        if margin != DEFAULT_WALLTIME_MARGIN_S and 0 < margin < request.walltime_s and _is_time(margin):
            fields["walltime_margin"] = walltime_text(margin)
    batch = {name: getattr(request, name) for name in ("queue", "project") if getattr(request, name) is not None}
    if request.extra_args:
        batch["extra_args"] = list(request.extra_args)
    return {**fields, "batch": batch} if batch else fields
