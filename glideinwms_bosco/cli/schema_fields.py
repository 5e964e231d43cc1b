# SPDX-License-Identifier: Apache-2.0
"""Every field of a file as its JSON Schema describes it, for people: tables of the pages, manual section 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glideinwms_bosco.schema_words import Schema
from glideinwms_bosco.site.schema import site_schema

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
    """All fields of a site file; `defaults` has those of `entries[]` and is not repeated."""
    return schema_fields(Schema(site_schema()), whole=("defaults",))


def schema_fields(schema: Schema, whole: Sequence[str] = ()) -> tuple[Field, ...]:
    """All fields, in the order of the schema.

    Args:
        whole: paths of blocks whose fields are left out.
    """
    return tuple(_Reader(schema, frozenset(whole)).fields(schema.content, ""))


class _Reader:
    """Walks through a schema."""

    def __init__(self, schema: Schema, whole: frozenset[str]) -> None:
        self._schema = schema
        self._whole = whole

    def fields(self, schema: Mapping[str, Any], path: str) -> Iterator[Field]:
        """The fields of a block."""
        # `else`: what the usual file needs, as against one with `submission: external`.
        required = (*schema.get("required", ()), *schema.get("else", {}).get("required", ()))
        for name, given in schema.get("properties", {}).items():
            found = self._flat(given)
            here = f"{path}.{name}" if path else name
            meaning = str(found.get("description", ""))
            yield Field(here, self._kind(found), name in required, meaning, _example(found))
            if here not in self._whole:
                yield from self._inner(found, here)

    def _inner(self, schema: Mapping[str, Any], path: str) -> Iterator[Field]:
        yield from self.fields(schema, path)
        if "items" in schema:
            yield from self.fields(self._flat(schema["items"]), f"{path}[]")
        if isinstance(schema.get("additionalProperties"), Mapping):
            yield from self._inner(self._flat(schema["additionalProperties"]), f"{path}.NAME")
        for branch in schema.get("oneOf", ()):
            yield from self.fields(self._flat(branch), path)

    def _flat(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """A schema with its reference, and the one it extends, put in; its own words win."""
        parts = [self._flat(part) for part in schema.get("allOf", ())]
        target = self._schema.resolved(schema)
        if target is not schema:
            parts.append(self._flat(target))
        merged: dict[str, Any] = {}
        for part in (*parts, {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}):
            merged.update(part)
        return merged

    def _kind(self, schema: Mapping[str, Any]) -> str:
        if "enum" in schema:
            return " / ".join(str(value) for value in schema["enum"])
        if "oneOf" in schema:
            kinds = {self._flat(branch).get("type") for branch in schema["oneOf"]}
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
