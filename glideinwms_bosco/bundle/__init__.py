# SPDX-License-Identifier: Apache-2.0
"""The remote-gahp install bundle: an HTCondor source in, a content-addressed archive for the login node out."""

from glideinwms_bosco.bundle.archive import load_bundle
from glideinwms_bosco.bundle.build import build_bundle
from glideinwms_bosco.bundle.extra import ExtraFile
from glideinwms_bosco.bundle.manifest import BundleFile, FileEntry, LinkEntry, Manifest, Repair
from glideinwms_bosco.bundle.model import Bundle
from glideinwms_bosco.bundle.request import BundleRequest, site_request
from glideinwms_bosco.site.source import HTCondorSource

__all__ = [
    "Bundle",
    "BundleFile",
    "BundleRequest",
    "ExtraFile",
    "FileEntry",
    "HTCondorSource",
    "LinkEntry",
    "Manifest",
    "Repair",
    "build_bundle",
    "load_bundle",
    "site_request",
]
