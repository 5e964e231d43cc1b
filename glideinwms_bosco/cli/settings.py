# SPDX-License-Identifier: Apache-2.0
"""Settings of the installed host: gwms-bosco.yaml, with an environment variable over each path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from glideinwms_bosco.errors import SettingsError, SettingsFileError, SiteError, SiteFileError
from glideinwms_bosco.pilot.scripts import default_scripts_dir
from glideinwms_bosco.site.load import htcondor_sources
from glideinwms_bosco.site.schema import schema_problems, site_schema
from glideinwms_bosco.site.source import HTCondorSource
from glideinwms_bosco.site.yaml_source import YamlSource

DEFAULT_FILE = Path("/etc/gwms-bosco/gwms-bosco.yaml")
FILE_VARIABLE = "GWMS_BOSCO_CONFIG"
# field -> environment variable, default, what it holds
_FOLDERS = {
    "sites_dir": ("GWMS_BOSCO_SITES", "/etc/gwms-bosco/sites.d", "Folder of the site files."),
    "config_d": (
        "GWMS_BOSCO_CONFIG_D",
        "/etc/gwms-factory/config.d",
        "Folder of rendered entries, config.d of glideinWMS.",
    ),
    "state_dir": ("GWMS_BOSCO_STATE", "/var/lib/gwms-bosco", "Folder of bundles, ssh settings and history."),
    "overrides_dir": (
        "GWMS_BOSCO_OVERRIDES",
        "/etc/gwms-bosco/overrides",
        "Folder of files laid over bundles, in it one for each batch system.",
    ),
    "scripts_dir": (
        "GWMS_BOSCO_SCRIPTS",
        str(default_scripts_dir()),
        "Folder of the pilot scripts; those that are installed with the program when left out.",
    ),
}


@dataclass(frozen=True)
class Settings:
    """Where things are on this host.

    Attributes:
        sites_dir: folder of the site files.
        config_d: glideinWMS's config.d, where entries are written.
        state_dir: bundles and ssh client configuration.
        order: number in front of rendered files, 0 to 99.
        htcondor: sources of bundles for sites that name none.
        scripts_dir: the pilot scripts; None: those that are installed with this program.
        overrides_dir: files laid over bundles, in a folder for each batch system.
        batch_settings: batch system -> keys of blah.config for all sites with it.
        pool: collectors of the pools that pilots join, for what they report.
    """

    sites_dir: Path
    config_d: Path
    state_dir: Path
    order: int = 50
    htcondor: tuple[HTCondorSource, ...] = ()
    overrides_dir: Optional[Path] = None
    scripts_dir: Optional[Path] = None
    batch_settings: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    pool: tuple[str, ...] = ()

    def host_settings(self, batch_system: str) -> tuple[tuple[str, str], ...]:
        """Keys of blah.config that the host sets for a batch system."""
        return self.batch_settings.get(batch_system, ())


def settings_schema() -> Mapping[str, Any]:
    """The JSON Schema of gwms-bosco.yaml."""
    site = site_schema()["properties"]
    systems = site["batch"]["properties"]["system"]["enum"]
    sources = {"description": "Sources of bundles for sites that name none; this host's HTCondor when left out."}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: _folder(name) for name in _FOLDERS},
            "order": {
                "type": "integer",
                "minimum": 0,
                "maximum": 99,
                "description": "Number in front of rendered files; later files win. 50 when left out.",
                "examples": [50],
            },
            "htcondor": {**site["install"]["properties"]["htcondor"], **sources},
            "batch_settings": {
                "type": "object",
                "description": "Further keys of blah.config, by batch system, for all sites with it.",
                "examples": ["{slurm: {slurm_binpath: /usr/bin}}"],
                "additionalProperties": False,
                "properties": dict.fromkeys(systems, site["batch"]["properties"]["settings"]),
            },
            "pool": {
                "type": "array",
                "minItems": 1,
                "maxItems": 8,
                "uniqueItems": True,
                "description": "Collectors of the pools that pilots join, `host[:port]`, for the measured load.",
                "examples": ["[collector.example.org:9618]"],
                "items": {
                    "type": "string",
                    "maxLength": 256,
                    "pattern": "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$",
                    "examples": ["collector.example.org:9618"],
                },
            },
        },
        "definitions": site_schema()["definitions"],
    }


def _folder(name: str) -> Mapping[str, Any]:
    variable, default, holds = _FOLDERS[name]
    # The default of the scripts is where this copy of the program lies.
    example = "/srv/validation_scripts" if name == "scripts_dir" else default
    text = f"{holds} An absolute path; {variable} of the environment wins."
    return {"type": "string", "pattern": "^/", "description": text, "examples": [example]}


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings file, if there is one, and the environment.

    Raises:
        SettingsError: the file is named by GWMS_BOSCO_CONFIG and missing, or has problems.
    """
    named = environment.get(FILE_VARIABLE)
    path = Path(named) if named else DEFAULT_FILE
    data: Mapping[str, Any] = {}
    if named or path.exists():
        try:
            source = YamlSource(path)
        except SiteFileError as err:
            raise SettingsFileError(err.problems) from None
        problems = schema_problems(source, settings_schema())
        if problems:
            raise SettingsFileError(tuple(problems))
        data = source.data
    try:
        htcondor = htcondor_sources(data.get("htcondor", []))
    except SiteError as err:
        raise SettingsError(f"{path}: {err.message}", err.hint) from None
    folders: dict[str, Path] = {}
    for name, (variable, default, _) in _FOLDERS.items():
        folders[name] = Path(environment.get(variable) or data.get(name, default))
        if not folders[name].is_absolute():
            # ssh, the schedd and the factory would each take it from another folder.
            raise SettingsError(f"{variable}={folders[name]} is not an absolute path", "write it from / on")
    batch_settings = {name: tuple(sorted(block.items())) for name, block in data.get("batch_settings", {}).items()}
    order, pool = data.get("order", 50), tuple(data.get("pool", ()))
    return Settings(order=order, htcondor=htcondor, batch_settings=batch_settings, pool=pool, **folders)
