# SPDX-License-Identifier: Apache-2.0
"""Every field of a site file as the schema describes it, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glideinwms_bosco.site.schema import resolved, site_schema

_KINDS = {"object": "block", "array": "list", "integer": "whole number", "boolean": "true or false", "string": "text"}


@dataclass(frozen=True)
class Field:
    """One field: dotted path (`entries[].cpus`), kind of value, whether it must be there, meaning, an example."""

    path: str
    kind: str
    required: bool
    meaning: str
    example: str


def site_fields() -> tuple[Field, ...]:
    """All fields in the order of the schema; `defaults` has those of `entries[]` and is not repeated."""
    return tuple(_fields(site_schema(), ""))


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[Field]:
    # `else`: what the usual file needs, as against one with `submission: external`.
    required = (*schema.get("required", ()), *schema.get("else", {}).get("required", ()))
    for name, given in schema.get("properties", {}).items():
        found = _flat(given)
        here = f"{path}.{name}" if path else name
        yield Field(here, _kind(found), name in required, str(found.get("description", "")), _example(found))
        if here != "defaults":
            yield from _inner(found, here)


def _inner(schema: Mapping[str, Any], path: str) -> Iterator[Field]:
    yield from _fields(schema, path)
    if "items" in schema:
        yield from _fields(_flat(schema["items"]), f"{path}[]")
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _inner(_flat(schema["additionalProperties"]), f"{path}.NAME")
    for branch in schema.get("oneOf", ()):
        yield from _fields(_flat(branch), path)


def _flat(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema with its reference, and the one it extends, put in; its own words win."""
    parts = [_flat(part) for part in schema.get("allOf", ())]
    target = resolved(schema)
    if target is not schema:
        parts.append(_flat(target))
    merged: dict[str, Any] = {}
    for part in (*parts, {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}):
        merged.update(part)
    return merged


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " / ".join(str(value) for value in schema["enum"])
    if "oneOf" in schema:
        kinds = {_flat(branch).get("type") for branch in schema["oneOf"]}
        return "block or list" if "array" in kinds else "block" if kinds == {"object"} else "value or block"
    kinds = schema.get("type", "")
    names = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(_KINDS.get(name, name) for name in names)


def _example(schema: Mapping[str, Any]) -> str:
    examples = schema.get("examples", ())
    return str(examples[0]).lower() if examples and isinstance(examples[0], bool) else str(next(iter(examples), ""))


def as_markdown(fields: tuple[Field, ...]) -> str:
    """The fields as a Markdown table."""
    lines = ["| field | value | meaning | example |", "|---|---|---|---|"]
    for field in fields:
        name = f"`{field.path}`{' (required)' if field.required else ''}"
        example = f"`{field.example}`" if field.example else ""
        cells = (cell.replace("|", "\\|") for cell in (name, field.kind, field.meaning, example))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
