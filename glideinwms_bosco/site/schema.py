# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of a site file: what it refuses, and what its fields take."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Optional

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.json_file import dotted
from glideinwms_bosco.schema_words import Schema, StrictValidator
from glideinwms_bosco.site.yaml_source import YamlSource


@cache
def _site() -> Schema:
    return Schema.of_package("glideinwms_bosco.site", "schema.json")


def site_schema() -> Mapping[str, Any]:
    """The JSON Schema of a site file."""
    return _site().content


def schema_problems(source: YamlSource, schema: Optional[Mapping[str, Any]] = None) -> list[Problem]:
    """Find everything the schema (the site file's, unless another is given) refuses, in the order of the file."""
    found = (_site() if schema is None else Schema(schema)).findings(source.data)
    problems = {Problem(source.file, source.line(path), dotted(path), message, hint) for path, message, hint in found}
    return sorted(problems, key=lambda problem: (problem.line, problem.field, problem.message))


@cache
def _field_validator(path: tuple[str, ...]) -> Any:
    schema: Mapping[str, Any] = site_schema()["definitions"]["entry"]
    for name in path:
        # A name below `additionalProperties` may be any.
        inner = resolved(schema)
        schema = inner["properties"][name] if name in inner.get("properties", {}) else inner["additionalProperties"]
    return StrictValidator({"allOf": [schema], "definitions": site_schema()["definitions"]})


def fits(path: tuple[str, ...], value: Any) -> bool:
    """Tell whether a field of an entry, such as `("limits", "per_entry", "idle")`, takes the value."""
    return bool(_field_validator(path).is_valid(value))


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that a `$ref` names, or the schema itself."""
    return _site().resolved(schema)
