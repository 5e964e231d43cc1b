# SPDX-License-Identifier: Apache-2.0
"""Every field of each file that people write is explained, with an example that is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from glideinwms_bosco.broker.policy import policy_schema
from glideinwms_bosco.cli.manual_formats import POLICY, RELAY_CONF, SETTINGS, SITE_FILE, file_formats
from glideinwms_bosco.cli.schema_fields import Field
from glideinwms_bosco.cli.settings import settings_schema
from glideinwms_bosco.schema_words import Schema
from glideinwms_bosco.site.schema import site_schema

FIELDS = [(given.name, field) for given in file_formats() for field in given.fields]
SCHEMAS: dict[str, Mapping[str, Any]] = {
    SITE_FILE: site_schema(),
    SETTINGS: settings_schema(),
    RELAY_CONF: Schema.of_package("glideinwms_bosco.relay", "relay.schema.json").content,
    POLICY: policy_schema().content,
}
SHORTENED = "..."
"""In an example: too long to be shown whole."""


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda value: getattr(value, "path", value))
def test_field_has_a_description_and_an_example(name: str, field: Field) -> None:
    # Those of relay.conf go on from words of its messages.
    assert field.meaning.endswith(".") or (name == RELAY_CONF and field.meaning), field
    assert field.example, field


def test_every_file_has_its_fields() -> None:
    assert {name for name, _ in FIELDS} == set(SCHEMAS)
    paths = {(name, field.path) for name, field in FIELDS}
    assert (RELAY_CONF, "brokers[].credential_paths") in paths
    assert (POLICY, "handles.NAME.hosts[].keys") in paths
    assert (SETTINGS, "htcondor.tarball") in paths
    assert (SITE_FILE, "login.jump_hosts[].host") in paths


def _with_examples(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Each part of the schema that has examples."""
    if isinstance(schema, dict):
        if isinstance(schema.get("examples"), list):
            yield schema
        for name, part in schema.items():
            if name != "examples":
                yield from _with_examples(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _with_examples(part)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_example_is_a_valid_value(name: str) -> None:
    """Blocks and lists are written as they would be in the file, on one line."""
    whole, checked = SCHEMAS[name], 0
    for part in _with_examples(whole):
        for example in part["examples"]:
            if SHORTENED in str(example):
                continue
            kinds = [part, *part.get("allOf", ()), *part.get("oneOf", ())]
            is_text = any("string" in _resolved(kind, whole).get("type", ()) for kind in kinds) or "enum" in part
            value = example if is_text or not isinstance(example, str) else yaml.safe_load(example)
            jsonschema.Draft7Validator({"allOf": [part], "definitions": whole["definitions"]}).validate(value)
            checked += 1
    assert checked > {SITE_FILE: 150, SETTINGS: 10, RELAY_CONF: 18, POLICY: 30}[name]


def _resolved(part: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        part = whole["definitions"][part["$ref"].rpartition("/")[2]]
    return part
