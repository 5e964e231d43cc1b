# SPDX-License-Identifier: Apache-2.0
"""Render a site description as factory entry XML. Same description, same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Union

from lxml import etree

from glideinwms_bosco.entry.attrs import entry_attrs
from glideinwms_bosco.entry.external import copied
from glideinwms_bosco.entry.meaning import entry_meanings
from glideinwms_bosco.entry.pilot_elements import add_files
from glideinwms_bosco.entry.raw import apply_raw
from glideinwms_bosco.entry.submit import gatekeeper, gridtype, submit_attrs
from glideinwms_bosco.errors import EntryError
from glideinwms_bosco.pilot.plan import NOTHING, PilotPlan
from glideinwms_bosco.site.model import AllowFrontend, Attr, Entry, Limits, SiteDescription

# Both credential modes are `key_pair` for glideinWMS: a broker's handle travels in the private key's place.
AUTH_METHOD = "key_pair"
# As glidein_startup.sh spells it: OSG_SQUID_LOCATION of the environment, which the job wrapper sets to the tunnel's.
TUNNEL_PROXY = "OSG"
WRITTEN_BY = "Written by gwms-bosco from"
"""How a file of ours begins to say where it comes from."""

Value = Union[str, int, float, bool, None]


@dataclass(frozen=True)
class Surroundings:
    """What entries are made of besides the site description.

    Attributes:
        plan: what pilots of the site bring along.
        pilot_dir: where the files of the plan are on the factory.
        originals: of a site with `submission: external`, its entries as their own files have them.
    """

    plan: PilotPlan = NOTHING
    pilot_dir: Path = Path()
    originals: Mapping[str, etree._Element] = field(default_factory=dict)


ALONE = Surroundings()
"""Of a site that has neither runtime block nor external entries."""


def render_site(site: SiteDescription, around: Surroundings = ALONE) -> bytes:
    """Render all entries of a site as one config.d file (UTF-8 XML, root `<glidein>`).

    External entries whose original is not there are left out.

    Raises:
        BatchError: an entry asks for what its batch system cannot express.
        EntryError: the XML, read back, does not mean what was rendered, or two files get one name on the node.
    """
    root = etree.Element("glidein")
    source = Path(site.file).name or site.name
    root.append(etree.Comment(f" {WRITTEN_BY} {source}: change that file instead. ".replace("--", "- -")))
    entries = etree.SubElement(root, "entries")
    for entry in site.entries:
        if not site.external:
            _entry(entries, site, entry, around)
        elif entry.name in around.originals:
            attrs = [_element(etree.Element("attrs"), "attr", _attr_values(attr)) for attr in around.plan.attrs]
            entries.append(copied(around.originals[entry.name], site, entry, attrs))
        else:
            continue
        for files in entries[-1].iterchildren("files"):
            add_files(files, around.plan, around.pilot_dir)
    text: bytes = etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="UTF-8")
    if entry_meanings(etree.fromstring(text)) != entry_meanings(root):
        raise EntryError(f"site {site.name}: the rendered XML does not read back as it was written", "report this")
    return text


def file_name(site: SiteDescription, order: int) -> str:
    """`<nn>-<short name>.xml`; `order` (0 to 99) places it among the other files of config.d."""
    return f"{order:02d}-{site.short_name}.xml"


def _element(parent: etree._Element, tag: str, values: Iterable[tuple[str, Value]] = ()) -> etree._Element:
    """Add an element with the attributes that have a value, booleans in glideinWMS's spelling."""
    element = etree.SubElement(parent, tag)
    for name, value in values:
        if value is not None:
            element.set(name, str(value))
    return element


def _entry(parent: etree._Element, site: SiteDescription, entry: Entry, around: Surroundings) -> None:
    accounts = site.accounts_of(entry)
    element = _element(
        parent,
        "entry",
        (
            ("name", entry.name),
            ("auth_method", AUTH_METHOD),
            ("bosco_dir", site.install.bosco_dir),
            ("comment", entry.comment),
            ("enabled", entry.enabled and site.enabled),
            # Without a login host the imported gatekeeper stands in `raw`.
            ("gatekeeper", gatekeeper(site, accounts[0]) if site.login and accounts else None),
            ("gridtype", gridtype(site)),
            ("proxy_url", entry.proxy_url or _tunnel_proxy(site)),
            ("rsl", entry.rsl),
            ("schedd_name", entry.schedd_name),
            ("trust_domain", site.trust_domain),
            ("verbosity", entry.verbosity),
            ("work_dir", entry.work_dir),
        ),
    )
    _config(element, site, entry)
    allowed = entry.allow_frontends or _frontends_of_accounts(site, entry)
    parent_of_frontends = _element(element, "allow_frontends")
    for frontend in allowed:
        _element(
            parent_of_frontends,
            "allow_frontend",
            (("name", frontend.name), ("security_class", frontend.security_class)),
        )
    attrs = _element(element, "attrs")
    for attr in entry_attrs(site, entry, around.plan.attrs):
        _element(attrs, "attr", _attr_values(attr))
    for empty in ("files", "infosys_refs", "monitorgroups"):
        _element(element, empty)
    apply_raw(element, entry.raw)


def _tunnel_proxy(site: SiteDescription) -> Optional[str]:
    return TUNNEL_PROXY if site.network is not None and site.network.web_proxy is not None else None


def _config(element: etree._Element, site: SiteDescription, entry: Entry) -> None:
    config = _element(element, "config")
    max_jobs = _element(config, "max_jobs")
    _element(max_jobs, "default_per_frontend", _limit_values(entry.default_per_frontend))
    _element(max_jobs, "per_entry", _limit_values(entry.per_entry))
    per_frontends = _element(max_jobs, "per_frontends")
    for name, limits in entry.per_frontends:
        _element(per_frontends, "per_frontend", (("name", name), *_limit_values(limits)))
    _element(config, "release", (("max_per_cycle", entry.release.max_per_cycle), ("sleep", entry.release.sleep_s)))
    _element(config, "remove", (("max_per_cycle", entry.remove.max_per_cycle), ("sleep", entry.remove.sleep_s)))
    _element(
        config,
        "restrictions",
        (
            ("require_glidein_glexec_use", entry.restrictions.require_glidein_glexec_use),
            ("require_voms_proxy", entry.restrictions.require_voms_proxy),
        ),
    )
    submit = _element(
        config,
        "submit",
        (
            ("cluster_size", entry.submit.cluster_size),
            ("max_per_cycle", entry.submit.max_per_cycle),
            ("sleep", entry.submit.sleep_s),
            ("slots_layout", entry.submit.slots_layout),
        ),
    )
    attrs = _element(submit, "submit_attrs")
    for name, value in submit_attrs(site, entry):
        _element(attrs, "submit_attr", (("name", name), ("value", value)))


def _limit_values(limits: Limits) -> tuple[tuple[str, Optional[int]], ...]:
    return ("glideins", limits.glideins), ("held", limits.held), ("idle", limits.idle)


def _attr_values(attr: Attr) -> tuple[tuple[str, Value], ...]:
    return (
        ("name", attr.name),
        ("comment", attr.comment),
        ("const", attr.const),
        ("glidein_publish", attr.glidein_publish),
        ("job_publish", attr.job_publish),
        ("parameter", attr.parameter),
        ("publish", attr.publish),
        ("type", attr.type),
        ("value", attr.value),
    )


def _frontends_of_accounts(site: SiteDescription, entry: Entry) -> tuple[AllowFrontend, ...]:
    """The frontends the accounts are for, if every account names one; otherwise no restriction can be derived."""
    accounts = site.accounts_of(entry)
    if not entry.raw.derive or any(account.frontend is None for account in accounts):
        return ()
    return tuple(AllowFrontend(account.frontend or "", account.security_class) for account in accounts)
