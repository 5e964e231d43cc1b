# SPDX-License-Identifier: Apache-2.0
"""The <attr> elements of an entry: those derived from the site description, and the operator's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from glideinwms_bosco.site.model import Attr, Entry, SiteDescription


@dataclass(frozen=True)
class Flags:
    """Type and flags of an attribute that the site file gives by value alone."""

    type: str = "string"
    const: bool = True
    parameter: bool = True
    publish: bool = True
    glidein_publish: bool = False
    job_publish: bool = False


# Source of the default: glideinWMS 3.10 creation/lib/factory_defaults.xml, <attr>.
_DEFAULT = Flags()
# Source of the rows: the batch entries of the OSG factories, where all entries agree on them.
_KNOWN = {
    "CONDOR_VERSION": Flags(const=False),
    "GLIDEIN_CMSSite": Flags(glidein_publish=True, job_publish=True),
    "GLIDEIN_CPUS": Flags(job_publish=True),
    "GLIDEIN_Country": Flags(glidein_publish=True, job_publish=True),
    "GLIDEIN_Glexec_Use": Flags(const=False, glidein_publish=True),
    "GLIDEIN_Is_Opportunistic": Flags(glidein_publish=True),
    "GLIDEIN_MaxMemMBs": Flags(type="int", glidein_publish=True),
    "GLIDEIN_Max_Walltime": Flags(type="int"),
    "GLIDEIN_Region": Flags(glidein_publish=True, job_publish=True),
    "GLIDEIN_ResourceName": Flags(glidein_publish=True, job_publish=True),
    "GLIDEIN_Retire_Time": Flags(type="int"),
    "GLIDEIN_Retire_Time_Spread": Flags(type="int"),
    "GLIDEIN_Site": Flags(glidein_publish=True, job_publish=True),
    "STARTD_HAS_BAD_UTMP": Flags(type="expr", parameter=False, glidein_publish=True),
    "USE_CCB": Flags(glidein_publish=True),
    "X509_CERT_DIR": Flags(job_publish=True),
}


def entry_attrs(site: SiteDescription, entry: Entry, runtime: Iterable[Attr] = ()) -> tuple[Attr, ...]:
    """All attributes of an entry, every flag set, sorted by name; the operator's own win over derived ones.

    Args:
        runtime: attributes that follow from the runtime block, also where nothing else is derived.
    """
    attrs = {name: Attr(name, value) for name, value in derived_attrs(site, entry)} if entry.raw.derive else {}
    attrs.update({attr.name: attr for attr in (*runtime, *entry.attrs)})
    return tuple(complete_attr(attrs[name]) for name in sorted(attrs))


def derived_attrs(site: SiteDescription, entry: Entry) -> Iterator[tuple[str, str]]:
    """Name and value of each attribute that follows from the fields of the site and the entry."""
    optional: tuple[tuple[str, Optional[object]], ...] = (
        ("GLIDEIN_Site", site.name),
        ("GLIDEIN_ResourceName", site.resource),
        ("GLIDEIN_CMSSite", site.cms_site),
        ("GLIDEIN_Country", site.country),
        ("GLIDEIN_Region", site.region),
        ("GLIDEIN_Supported_VOs", ",".join(site.supported_vos) or None),
        ("GLIDEIN_CPUS", entry.cpus),
        ("GLIDEIN_MaxMemMBs", entry.memory_mb),
        ("GLIDEIN_Max_Walltime", entry.walltime_s and entry.walltime_s - entry.walltime_margin_s),
        # Source: glideinWMS factory documentation, custom variables, GLIDEIN_Resource_Slots.
        ("GLIDEIN_Resource_Slots", f"GPUs,{entry.gpus},type=main" if entry.gpus else None),
    )
    for name, value in optional:
        if value is not None:
            yield name, str(value)


def complete_attr(attr: Attr) -> Attr:
    """The attribute with every flag set: its own, or the default of its name."""
    flags = _KNOWN.get(attr.name, _DEFAULT)

    def stated(own: Optional[bool], default: bool) -> bool:
        return default if own is None else own

    return Attr(
        name=attr.name,
        value=attr.value,
        type=attr.type or flags.type,
        const=stated(attr.const, flags.const),
        parameter=stated(attr.parameter, flags.parameter),
        publish=stated(attr.publish, flags.publish),
        glidein_publish=stated(attr.glidein_publish, flags.glidein_publish),
        job_publish=stated(attr.job_publish, flags.job_publish),
        comment=attr.comment,
    )
