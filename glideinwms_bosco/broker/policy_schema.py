# SPDX-License-Identifier: Apache-2.0
"""Check plain policy values against the JSON Schema and word its findings for administrators."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, cast

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from glideinwms_bosco.broker.json_source import JsonSource, PathKey
from glideinwms_bosco.errors import Problem

_TYPE_WORDS = {
    "object": "a block of fields",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


@cache
def policy_schema() -> Mapping[str, Any]:
    """The JSON Schema of a policy file (draft 7, the newest that EL9's jsonschema 3.2 knows)."""
    text = (resources.files("glideinwms_bosco.broker") / "policy.schema.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


@cache
def _validator() -> Any:
    return Draft7Validator(policy_schema())


def schema_problems(source: JsonSource) -> list[Problem]:
    """Find everything the schema refuses, in the order of the file."""
    problems = [problem for error in _validator().iter_errors(source.data) for problem in _problems(error, source)]
    return sorted(set(problems), key=lambda problem: (problem.line, problem.field, problem.message))


def _problems(error: ValidationError, source: JsonSource) -> Iterator[Problem]:
    if error.validator == "oneOf":
        # The only such field is `maintain`; what is no block is meant to be false.
        block = isinstance(error.instance, dict)
        for inner in error.context or ():
            if (int(inner.schema_path[0]) == 1) == block:
                yield from _problems(inner, source)
        return
    base: PathKey = tuple(error.absolute_path)
    for path, message, hint in _worded(error, base):
        yield source.problem(path, message, hint)


def _worded(error: ValidationError, base: PathKey) -> Iterator[tuple[PathKey, str, str]]:
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    instance = cast(Any, error.instance)
    kind, value = str(error.validator), cast(Any, error.validator_value)
    if kind == "additionalProperties":
        known = list(schema.get("properties", ()))
        for key in instance:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                yield (
                    (*base, key),
                    "unknown field",
                    f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}",
                )
    elif kind == "required":
        for name in value:
            if name not in instance:
                yield (*base, name), "missing", f"add it; it is: {_described(schema, name)}"
    elif kind == "type":
        types = [value] if isinstance(value, str) else list(value)
        wanted = " or ".join(_TYPE_WORDS[name] for name in types)
        yield base, f"must be {wanted}, is {_shown(instance)}", _example(schema)
    elif kind == "enum":
        yield base, f"{_shown(instance)} is not known", "one of: " + ", ".join(json.dumps(item) for item in value)
    elif kind in ("minimum", "maximum"):
        yield base, f"is {instance}, must be at {'least' if kind == 'minimum' else 'most'} {value}", ""
    elif kind == "pattern" and "propertyNames" in error.absolute_schema_path:
        yield (*base, str(instance)), "is not a usable name", "letters, digits, dot, dash and underscore; at most 64"
    elif kind == "pattern":
        yield base, f"{_shown(instance)} is not allowed here", _example(schema)
    elif kind in ("minItems", "minLength"):
        yield base, "is empty", _example(schema)
    elif kind in ("maxItems", "maxLength"):
        yield base, f"is longer than {value}", ""
    elif kind == "uniqueItems":
        yield base, "names something twice", "remove one of them"
    else:
        yield base, " ".join(error.message.split()), ""


def _described(schema: Mapping[str, Any], name: str) -> str:
    found: Mapping[str, Any] = schema.get("properties", {}).get(name, {})
    target: Any = policy_schema()
    for part in str(found.get("$ref", "")).split("/")[1:]:
        target = target[part]
    return str(found.get("description") or target.get("description", name))


def _example(schema: Mapping[str, Any]) -> str:
    examples = " or ".join(str(item) for item in schema.get("examples", ()))
    described = str(schema.get("description", ""))
    return " ".join(part for part in (described, f"For example: {examples}" if examples else "") if part)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a block of fields" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
