# SPDX-License-Identifier: Apache-2.0
"""The files that people write, for section 5 of the manual: their fields are those of the schemas that check them."""

from __future__ import annotations

from glideinwms_bosco.broker.policy import policy_schema
from glideinwms_bosco.cli.manual_pages import FileFormat
from glideinwms_bosco.cli.schema_fields import schema_fields, site_fields
from glideinwms_bosco.cli.settings import DEFAULT_FILE, settings_schema
from glideinwms_bosco.relay.conf import DEFAULT_CONF
from glideinwms_bosco.schema_words import Schema

SITE_FILE = "gwms-bosco-site"
SETTINGS = "gwms-bosco.yaml"
RELAY_CONF = "gwms-ssh-relay.conf"
POLICY = "gwms-ssh-broker-policy"


def file_formats() -> tuple[FileFormat, ...]:
    """All of them."""
    return (_site_file(), _settings(), _relay_conf(), _policy())


def _site_file() -> FileFormat:
    return FileFormat(
        SITE_FILE,
        "/etc/gwms-bosco/sites.d/SITE.yaml",
        "one site: login node, accounts, batch system, entries, what pilots bring along",
        "YAML; the name of the file without .yaml is how commands call the site. Scalars are those of YAML 1.2: no and "
        "48:00:00 are text. `gwms-bosco site check FILE` says all that is wrong, with lines, and touches nothing. "
        "Examples lie in /usr/share/gwms-bosco/examples/sites. `defaults` takes the fields of entries[].",
        site_fields(),
        (("gwms-bosco-site", 1), (SETTINGS, 5)),
    )


def _settings() -> FileFormat:
    return FileFormat(
        SETTINGS,
        str(DEFAULT_FILE),
        "settings of a factory host for gwms-bosco",
        "YAML. Nothing has to be set, and the file may be missing; what is left out has its default. Every command of "
        "gwms-bosco reads and checks it.",
        schema_fields(Schema(settings_schema()), whole=("batch_settings",)),
        (("gwms-bosco", 1), (SITE_FILE, 5)),
    )


def _relay_conf() -> FileFormat:
    return FileFormat(
        RELAY_CONF,
        str(DEFAULT_CONF),
        "settings of the factory's relay: which brokers may connect, and whose credential files each may serve",
        "JSON; every field that is not required has a default. `gwms-ssh-relay check` says all that is wrong, with "
        "lines; the running relay reads it again on SIGHUP (`systemctl reload gwms-ssh-relay`). An example with all "
        "defaults lies in /usr/share/gwms-bosco/examples/relay.conf.",
        schema_fields(Schema.of_package("glideinwms_bosco.relay", "relay.schema.json")),
        (("gwms-ssh-relay", 8),),
    )


def _policy() -> FileFormat:
    return FileFormat(
        POLICY,
        "/etc/gwms-ssh-broker/policy.json",
        "policy of the frontend's broker: which key signs for which account at which hosts, for which factories",
        "JSON. The verbs of `gwms-ssh-broker key` and `gwms-ssh-broker factory` write it and tell a running broker; "
        "what they have no option for is written by hand, and then `systemctl reload gwms-ssh-broker`. A file that "
        "others may write is refused. Every command of gwms-ssh-broker says all that is wrong in it, with lines.",
        schema_fields(policy_schema(), whole=("handles.NAME.cert.ca",)),
        (("gwms-ssh-broker", 8), ("gwms-ssh-broker-key", 8), ("gwms-ssh-broker-factory", 8)),
    )
