# SPDX-License-Identifier: Apache-2.0
"""Every field of each file that people write is explained, with an example that is right."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from glideinwms_bosco.broker.policy import policy_schema
from glideinwms_bosco.cli.main import main
from glideinwms_bosco.cli.manual_formats import POLICY, RELAY_CONF, SETTINGS, SITE_FILE, file_formats
from glideinwms_bosco.cli.schema_fields import Field, site_fields
from glideinwms_bosco.cli.settings import settings_schema
from glideinwms_bosco.schema_words import Schema
from glideinwms_bosco.site.schema import site_schema
from tests.unit.site_text import VALID, use_host_folders

FIELDS = [(given.name, field) for given in file_formats() for field in given.fields]
SCHEMAS: dict[str, Mapping[str, Any]] = {
    SITE_FILE: site_schema(),
    SETTINGS: settings_schema(),
    RELAY_CONF: Schema.of_package("glideinwms_bosco.relay", "relay.schema.json").content,
    POLICY: policy_schema().content,
}
SHORTENED = "..."
"""In an example: too long to be shown whole."""
# Field -> what a site file with its example needs besides.
_NOT_ALONE = {
    "submission": "runtime",
    "login": "host keys of the host",
    "login.jump_hosts": "host keys of the jump host",
    "install.overrides": "the file",
    "entries[].file": "submission: external",
    "entries[].accounts": "an account of this name",
    "network": "runtime, and the files that it names",
}
# Fields that stand in every kind of site file, two blocks deep at most.
_PLAIN = re.compile(r"((login|accounts\[\]|batch|install|entries\[\](\.(limits|submit|batch))?)\.)?\w+")
PLAIN_FIELDS = [
    field
    for field in site_fields()
    if _PLAIN.fullmatch(field.path) and field.path not in _NOT_ALONE and SHORTENED not in field.example
]


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


@pytest.mark.parametrize("field", PLAIN_FIELDS, ids=lambda field: field.path)
def test_site_check_takes_the_example(
    field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is good within a file too, not for its form alone."""
    site = yaml.safe_load(VALID)
    *blocks, name = field.path.split(".")
    block = site
    for part in blocks:
        block = block[part[:-2]][0] if part.endswith("[]") else block.setdefault(part, {})
    block[name] = field.example if field.kind == "text" else yaml.safe_load(field.example)
    file = use_host_folders(tmp_path, monkeypatch) / "sites.d" / "test.yaml"
    file.write_text(yaml.safe_dump(site))
    assert main(["site", "check", "test"]) == 0, capsys.readouterr().err


def test_what_cannot_stand_alone_is_a_field() -> None:
    assert {field.path for field in site_fields()} >= _NOT_ALONE.keys()
    assert len(PLAIN_FIELDS) > 60
