# SPDX-License-Identifier: Apache-2.0
"""What the site asks of its bundle; an invalid request cannot be built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

from glideinwms_bosco.bundle.extra import ExtraFile, first_refusal
from glideinwms_bosco.bundle.layout import LAYOUTS
from glideinwms_bosco.bundle.manifest import ConfigSetting
from glideinwms_bosco.egress.conf import JOB_WRAPPER_SETTING, bundle_files
from glideinwms_bosco.errors import BundleError
from glideinwms_bosco.site.job_wrapper import needs_job_wrapper
from glideinwms_bosco.site.model import SiteDescription

MAX_BOSCO_DIR_CHARS = 200
MAX_SETTINGS = 64
MAX_SETTING_CHARS = 1024
MAX_BIN_PATH_CHARS = 1024

ORIGIN = "gwms-bosco"
"""Of files of ours, in manifests."""

_PART = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.][A-Za-z0-9_.+-]*"
_BOSCO_DIR = re.compile(rf"{_PART}(?:/{_PART})*")
_BIN_PATH = re.compile(rf"(?:/{_PART})+")
_KEY = re.compile(r"[a-z_]{1,64}")
# The line is read by sh, by Python's RawConfigParser and by blahpd: nothing that any of them would expand or unquote.
_VALUE = re.compile(r"[^\x00-\x1f\x7f\"'$`\\]*")

Settings = Union[Mapping[str, str], tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class BundleRequest:
    """One bundle, as a site describes it.

    Attributes:
        batch_system: a key of layout.LAYOUTS.
        bosco_dir: directory relative to the remote HOME that holds versions/, sandbox/ and log/.
        blah_settings: further lines of blah.config; a mapping or (key, value) pairs, kept sorted by key.
        bin_path: absolute directory of the site's batch commands on the login node; None = search PATH there.
        host_settings: lines of blah.config for all sites of this host; blah_settings win over them.
        extra_files: laid over the bundle one after the other, so that a later one replaces an earlier.
        own_files: of ours, which follow from the site; what is laid over may replace them.
        own_settings: lines of blah.config that go with them.

    Raises:
        BundleError: an unknown batch system, or a value outside the strict patterns of this module.
    """

    batch_system: str
    bosco_dir: str = "bosco"
    blah_settings: Settings = ()
    bin_path: Optional[str] = None
    host_settings: Settings = ()
    extra_files: tuple[ExtraFile, ...] = ()
    own_files: tuple[ExtraFile, ...] = ()
    own_settings: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.batch_system not in LAYOUTS:
            raise BundleError(f"no bundle for batch system {self.batch_system!r}", f"known: {', '.join(LAYOUTS)}")
        if len(self.bosco_dir) > MAX_BOSCO_DIR_CHARS or not _BOSCO_DIR.fullmatch(self.bosco_dir):
            raise BundleError(
                f"bosco_dir {self.bosco_dir!r} is not a plain relative path", "letters, digits, _ . + - and /; no .."
            )
        if self.bin_path is not None and (
            len(self.bin_path) > MAX_BIN_PATH_CHARS or not _BIN_PATH.fullmatch(self.bin_path)
        ):
            raise BundleError(f"bin_path {self.bin_path!r} is not a plain absolute path", "letters, digits, _ . + - /")
        object.__setattr__(self, "blah_settings", self._checked(self.blah_settings, ""))
        object.__setattr__(self, "host_settings", self._checked(self.host_settings, "gwms-bosco.yaml: "))
        wrong = first_refusal(self.extra_files, self.batch_system)
        if wrong is not None:
            raise BundleError(*wrong)

    @property
    def settings(self) -> tuple[ConfigSetting, ...]:
        """Lines of blah.config that an operator has set, sorted by key, each with its origin."""
        host = {key: ConfigSetting(key, value, "gwms-bosco.yaml") for key, value in _pairs(self.host_settings)}
        site = {key: ConfigSetting(key, value, "site file") for key, value in _pairs(self.blah_settings)}
        return tuple(setting for _, setting in sorted({**host, **site}.items()))

    def _checked(self, settings: Settings, where: str) -> tuple[tuple[str, str], ...]:
        pairs = _pairs(settings)
        if len(pairs) > MAX_SETTINGS:
            raise BundleError(f"{where}{len(pairs)} blah settings, {MAX_SETTINGS} are allowed", "remove some")
        layout = LAYOUTS[self.batch_system]
        taken = {key for key, _ in (*layout.settings, *self.own_settings)} | {layout.bin_path_key}
        for key, value in pairs:
            if not _KEY.fullmatch(key):
                raise BundleError(f"{where}blah setting {key!r}: not a key of blah.config", "lower case letters and _")
            if len(value) > MAX_SETTING_CHARS or not _VALUE.fullmatch(value):
                raise BundleError(f"{where}blah setting {key}: value {value!r} is refused", "no quotes, $, ` or \\")
            if key in taken:
                hint = "use bin_path" if key == layout.bin_path_key or key.endswith("_binpath") else "remove it"
                raise BundleError(f"{where}blah setting {key} is set by the bundle itself", hint)
        if len({key for key, _ in pairs}) != len(pairs):
            raise BundleError(f"{where}a blah setting is given twice", "keep one of them")
        return tuple(sorted(pairs))


def _pairs(settings: Settings) -> tuple[tuple[str, str], ...]:
    return tuple(settings.items()) if isinstance(settings, Mapping) else tuple(settings)


def site_request(
    site: SiteDescription,
    host_settings: Settings = (),
    extra_files: tuple[ExtraFile, ...] = (),
    job_wrapper: Optional[bytes] = None,
) -> BundleRequest:
    """Return what a site asks of its bundle.

    Args:
        site: the site.
        host_settings: keys of blah.config that this host sets for the site's batch system.
        extra_files: files laid over its bundle, see `overrides.read_overrides`.
        job_wrapper: the packed script that starts its pilots, of a site that needs one.

    Raises:
        BundleError: a setting or file cannot be used, or the job wrapper is missing.
        EgressError: the network block has a value that must not reach a node.
    """
    own: tuple[ExtraFile, ...] = ()
    if needs_job_wrapper(site):
        if job_wrapper is None:
            raise BundleError(
                f"{site.file or site.name}: its bundle needs the job wrapper", "install the package again"
            )
        own = tuple(
            ExtraFile(file.path, file.content, f"{ORIGIN}:{file.path}", file.mode)
            for file in bundle_files(site, job_wrapper)
        )
    return BundleRequest(
        site.batch.system,
        site.install.folder,
        site.batch.settings,
        site.batch.bin_path,
        host_settings,
        extra_files,
        own,
        (JOB_WRAPPER_SETTING,) if own else (),
    )
