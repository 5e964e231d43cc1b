# SPDX-License-Identifier: Apache-2.0
"""Check plain YAML values against the JSON Schema and word its findings for operators."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Optional, cast

from jsonschema import Draft7Validator, validators
from jsonschema.exceptions import ValidationError

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.site.yaml_source import PathKey, YamlSource, dotted

_TYPE_WORDS = {
    "object": "a block of fields",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


@cache
def site_schema() -> Mapping[str, Any]:
    """The JSON Schema of a site file (draft 7, the newest that EL9's jsonschema 3.2 knows)."""
    text = (resources.files("glideinwms_bosco.site") / "schema.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


# JSON Schema counts 4.0 as an integer; it would be rendered as `4.0`.
_StrictValidator = validators.extend(  # type: ignore[no-untyped-call]
    Draft7Validator,
    type_checker=Draft7Validator.TYPE_CHECKER.redefine("integer", lambda _checker, value: type(value) is int),
)


@cache
def _site_validator() -> Any:
    return _StrictValidator(site_schema())


def schema_problems(source: YamlSource, schema: Optional[Mapping[str, Any]] = None) -> list[Problem]:
    """Find everything the schema (the site file's, unless another is given) refuses, in the order of the file."""
    validator = _site_validator() if schema is None else _StrictValidator(schema)
    problems = [problem for error in validator.iter_errors(source.data) for problem in _problems(error, source)]
    return sorted(set(problems), key=lambda problem: (problem.line, problem.field, problem.message))


def _problems(error: ValidationError, source: YamlSource) -> Iterator[Problem]:
    if error.validator == "oneOf":
        for inner in _nearest_branch(error):
            yield from _problems(inner, source)
        return
    base: PathKey = tuple(error.absolute_path)
    for path, message, hint in _worded(error, base):
        yield Problem(source.file, source.line(path), dotted(path), message, hint)


def _nearest_branch(error: ValidationError) -> list[ValidationError]:
    """The findings of the one alternative that the value comes closest to."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)

    def distance(found: list[ValidationError]) -> tuple[bool, int]:
        wrong_type = any(inner.validator == "type" and len(inner.path) == 0 for inner in found)
        return wrong_type, len(found)

    return min(branches.values(), key=distance)


def _worded(error: ValidationError, base: PathKey) -> Iterator[tuple[PathKey, str, str]]:
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    instance = cast(Any, error.instance)
    kind, value = str(error.validator), cast(Any, error.validator_value)
    if kind == "additionalProperties":
        known = list(schema.get("properties", ()))
        for key in instance:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
                yield (*base, key), "unknown field", hint
    elif kind == "required":
        missing = [name for name in value if name not in instance]
        for name in missing:
            yield (*base, name), "missing", f"add it; it is: {_described(schema, name)}"
    elif kind == "type":
        types = [value] if isinstance(value, str) else list(value)
        wanted = " or ".join(_TYPE_WORDS[name] for name in types)
        yield base, f"must be {wanted}, is {_shown(instance)}", _example(schema)
    elif kind == "enum":
        yield base, f"{_shown(instance)} is not known", "one of: " + ", ".join(str(item) for item in value)
    elif kind in ("minimum", "maximum"):
        bound = "at least" if kind == "minimum" else "at most"
        yield base, f"is {_shown(instance)}, must be {bound} {value}", ""
    elif kind == "pattern" and "propertyNames" in error.absolute_schema_path:
        yield (*base, str(instance)), "is not a usable name", f"it must match {value}"
    elif kind == "pattern":
        yield base, f"{_shown(instance)} is not allowed here", _example(schema)
    elif kind in ("minItems", "minProperties", "minLength"):
        yield base, "is empty", _example(schema)
    elif kind in ("maxItems", "maxProperties", "maxLength"):
        yield base, f"is longer than {value}", ""
    elif kind == "uniqueItems":
        yield base, "names something twice", "remove one of them"
    else:
        yield base, " ".join(error.message.split()), ""


@cache
def _field_validator(path: tuple[str, ...]) -> Any:
    schema: Mapping[str, Any] = site_schema()["definitions"]["entry"]
    for name in path:
        # A name below `additionalProperties` may be any.
        inner = resolved(schema)
        schema = inner["properties"][name] if name in inner.get("properties", {}) else inner["additionalProperties"]
    return _StrictValidator({"allOf": [schema], "definitions": site_schema()["definitions"]})


def fits(path: tuple[str, ...], value: Any) -> bool:
    """Tell whether a field of an entry, such as `("limits", "per_entry", "idle")`, takes the value."""
    return bool(_field_validator(path).is_valid(value))


def _described(schema: Mapping[str, Any], name: str) -> str:
    found: Mapping[str, Any] = schema.get("properties", {}).get(name, {})
    return str(found.get("description") or resolved(found).get("description", name))


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definition that a `$ref` names, or the schema itself."""
    target: Any = site_schema()
    for part in str(schema.get("$ref", "")).split("/")[1:]:
        target = target[part]
    return target if "$ref" in schema else schema


def _example(schema: Mapping[str, Any]) -> str:
    examples = " or ".join(str(item) for item in schema.get("examples", ()))
    described = str(schema.get("description", ""))
    return " ".join(part for part in (described, f"For example: {examples}" if examples else "") if part)


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a block of fields" if isinstance(value, dict) else "a list"
    if value is None:
        return "empty"
    text = json.dumps(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
