# SPDX-License-Identifier: Apache-2.0
"""Hold the values of a file against a JSON Schema and word what is wrong for an operator.

Any room may import this, as it may `errors`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple, cast

from jsonschema import Draft7Validator, validators
from jsonschema.exceptions import ValidationError

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.json_file import JsonSource, PathKey

_TYPE_WORDS = {
    "object": "a block of fields",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_MAX_SHOWN_CHARS = 60

# JSON Schema counts 4.0 as an integer; it would be rendered as `4.0`.
StrictValidator = validators.extend(  # type: ignore[no-untyped-call]
    Draft7Validator,
    type_checker=Draft7Validator.TYPE_CHECKER.redefine("integer", lambda _checker, value: type(value) is int),
)


class Finding(NamedTuple):
    """One thing that a schema refuses."""

    path: PathKey
    message: str
    hint: str


class Schema:
    """A JSON Schema of draft 7, the newest that EL9's jsonschema 3.2 knows."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self._validator: Any = StrictValidator(content)

    @classmethod
    def of_package(cls, package: str, file: str) -> Schema:
        """Read a schema that is installed in a package."""
        return cls(json.loads((resources.files(package) / file).read_text(encoding="utf-8")))

    def findings(self, data: Any) -> Iterator[Finding]:
        """Everything that is refused in plain values, in no order."""
        for error in self._validator.iter_errors(data):
            yield from self._findings(error)

    def problems(self, source: JsonSource) -> list[Problem]:
        """Everything that is refused in a JSON file, in the order of the file."""
        problems = {source.problem(*finding) for finding in self.findings(source.data)}
        return sorted(problems, key=lambda problem: (problem.line, problem.field, problem.message))

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The definition that a `$ref` names, or the schema itself."""
        target: Any = self.content
        for part in str(schema.get("$ref", "")).split("/")[1:]:
            target = target[part]
        return target if "$ref" in schema else schema

    def _findings(self, error: ValidationError) -> Iterator[Finding]:
        if error.validator == "oneOf":
            for inner in _nearest_branch(error):
                yield from self._findings(inner)
            return
        base: PathKey = tuple(error.absolute_path)
        kind, schema = str(error.validator), error.schema if isinstance(error.schema, Mapping) else {}
        if kind == "additionalProperties":
            yield from _unknown(error, schema, base)
        elif kind == "required":
            for name in cast(Any, error.validator_value):
                if name not in cast(Any, error.instance):
                    yield Finding((*base, name), "missing", f"add it; it is: {self._described(schema, name)}")
        elif kind == "pattern" and "propertyNames" in error.absolute_schema_path:
            must = str(schema.get("description") or f"it must match {error.validator_value}")
            yield Finding((*base, str(error.instance)), "is not a usable name", must)
        else:
            yield Finding(base, *_worded(error, kind, schema))

    def _described(self, schema: Mapping[str, Any], name: str) -> str:
        found: Mapping[str, Any] = schema.get("properties", {}).get(name, {})
        return str(found.get("description") or self.resolved(found).get("description", name))


def _nearest_branch(error: ValidationError) -> list[ValidationError]:
    """The findings of the one alternative that the value comes closest to."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)

    def distance(found: list[ValidationError]) -> tuple[bool, int]:
        wrong_type = any(inner.validator == "type" and len(inner.path) == 0 for inner in found)
        return wrong_type, len(found)

    return min(branches.values(), key=distance)


def _unknown(error: ValidationError, schema: Mapping[str, Any], base: PathKey) -> Iterator[Finding]:
    known = list(schema.get("properties", ()))
    for key in cast(Any, error.instance):
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
            yield Finding((*base, key), "unknown field", hint)


def _worded(error: ValidationError, kind: str, schema: Mapping[str, Any]) -> tuple[str, str]:
    """Message and hint."""
    instance, value = cast(Any, error.instance), cast(Any, error.validator_value)
    if kind == "type":
        wanted = " or ".join(_TYPE_WORDS[name] for name in ([value] if isinstance(value, str) else value))
        return f"must be {wanted}, is {_shown(instance)}", _example(schema)
    if kind == "enum":
        words = (item if isinstance(item, str) else json.dumps(item) for item in value)
        return f"{_shown(instance)} is not known", f"one of: {', '.join(words)}"
    if kind in ("minimum", "maximum"):
        return f"is {_shown(instance)}, must be at {'least' if kind == 'minimum' else 'most'} {value}", ""
    if kind == "pattern":
        return f"{_shown(instance)} is not allowed here", _example(schema)
    if kind in ("minItems", "minProperties", "minLength"):
        return "is empty", _example(schema)
    if kind in ("maxItems", "maxProperties", "maxLength"):
        return f"is longer than {value}", ""
    if kind == "uniqueItems":
        return "names something twice", "remove one of them"
    return " ".join(error.message.split()), ""


def _example(schema: Mapping[str, Any]) -> str:
    examples = " or ".join(str(item) for item in schema.get("examples", ()))
    described = str(schema.get("description", ""))
    if described and examples and described[-1].isalnum():
        described += "."
    return " ".join(part for part in (described, f"For example: {examples}" if examples else "") if part)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a block of fields" if isinstance(value, dict) else "a list"
    if value is None:
        return "empty"
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 3] + "..."
