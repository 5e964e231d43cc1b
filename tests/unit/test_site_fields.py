# SPDX-License-Identifier: Apache-2.0
"""Every field of the site file's schema is explained, with an example that is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import pytest
import yaml

from glideinwms_bosco.site.fields import site_fields
from glideinwms_bosco.site.schema import site_schema

FIELDS = site_fields()
SHORTENED = "..."
"""In an example: too long to be shown whole."""


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_field_has_a_description_and_an_example(field: Any) -> None:
    assert field.meaning.endswith("."), field
    assert field.example, field


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


def test_each_example_is_a_valid_value() -> None:
    """Blocks and lists are written as they would be in the file, on one line."""
    whole, checked = site_schema(), 0
    for part in _with_examples(whole):
        for example in part["examples"]:
            if SHORTENED in str(example):
                continue
            kinds = [part, *part.get("allOf", ()), *part.get("oneOf", ())]
            is_text = any(_resolved(kind, whole).get("type") == "string" for kind in kinds) or "enum" in part
            value = example if is_text or not isinstance(example, str) else yaml.safe_load(example)
            jsonschema.Draft7Validator({"allOf": [part], "definitions": whole["definitions"]}).validate(value)
            checked += 1
    assert checked > 150


def _resolved(part: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in part:
        part = whole["definitions"][part["$ref"].rpartition("/")[2]]
    return part
