# SPDX-License-Identifier: Apache-2.0
"""SITECONF trees on disk, made out of a site file's block or out of the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.load import load_site
from glideinwms_bosco.site.model import SiteDescription
from glideinwms_bosco.siteconf.model import Link, TreeFile
from tests.unit.site_text import problems_of

REAL = Path(__file__).parents[1] / "golden" / "siteconf"
"""Three real ones: `local` is T2_CH_CERN's, with a sibling T1_IT_CNAF."""
HIP = {"T2_FI_HIP": str(REAL / "T2_FI_HIP")}
CNAF = {"T1_IT_CNAF": str(REAL / "T1_IT_CNAF")}
LFN = "/store/mc/Run3/file.root"

STAGE_OUT = {"site": "T2_FI_HIP", "volume": "HIP_dCache", "protocol": "WebDAV"}
SMALLEST: Mapping[str, Any] = {"site": "T3_US_HPC", "stage_out": [STAGE_OUT], "siblings": HIP}
"""A block that lacks nothing."""


def site_file(folder: Path, block: Mapping[str, Any], **runtime: Any) -> Path:
    """Write a site file with a SITECONF block, and more of the runtime block."""
    path = folder / "test.yaml"
    data = {
        "site": "T3_XX_Test",
        "submission": "external",
        "entries": [{"name": "CE_Entry"}],
        "runtime": {"siteconf": dict(block), **runtime},
    }
    # JSON is YAML in which no text looks like a number.
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return path


def site_with(folder: Path, block: Mapping[str, Any], **runtime: Any) -> SiteDescription:
    """Load a site with a SITECONF block."""
    return load_site(site_file(folder, block, **runtime))[0]


def problems_with(folder: Path, block: Mapping[str, Any], **runtime: Any) -> tuple[Problem, ...]:
    """All problems of a site file with a SITECONF block."""
    return problems_of(site_file(folder, block, **runtime))


def write_tree(files: Mapping[str, TreeFile], folder: Path) -> Path:
    """Put a tree on disk; returns `folder`."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            target.symlink_to(content.target)
        else:
            target.write_bytes(content)
    return folder
