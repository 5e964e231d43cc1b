# SPDX-License-Identifier: Apache-2.0
"""Hold relay.conf against its JSON Schema and word what is wrong for an operator."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from glideinwms_bosco.errors import Problem
from glideinwms_bosco.relay.json_source import JsonSource, PathKey

_TYPE_WORDS = {"object": "a block in { }", "array": "a list in [ ]", "string": "a text", "integer": "a whole number"}


def conf_schema() -> Mapping[str, Any]:
    """The JSON Schema of relay.conf (draft 7, the newest that EL9's jsonschema 3.2 knows)."""
    text = (resources.files("glideinwms_bosco.relay") / "relay.schema.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


def schema_problems(source: JsonSource) -> list[Problem]:
    """Find everything the schema refuses, in the order of the file."""
    found = [
        problem for error in Draft7Validator(conf_schema()).iter_errors(source.data) for problem in _word(error, source)
    ]
    return sorted(set(found), key=lambda problem: (problem.line, problem.field, problem.message))


def _word(error: ValidationError, source: JsonSource) -> Iterator[Problem]:
    here: PathKey = tuple(error.absolute_path)
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    value: Any = error.validator_value
    kind = str(error.validator)
    if kind == "additionalProperties":
        known = list(schema["properties"])
        for key in error.instance:  # type: ignore[union-attr]
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known fields: {', '.join(known)}"
                yield source.problem((*here, key), "unknown field", hint)
    elif kind == "required":
        for name in value:
            if name not in error.instance:  # type: ignore[operator]
                yield source.problem((*here, name), "missing", f"add it: {_described(schema['properties'][name])}")
    elif kind == "type":
        words = [_TYPE_WORDS[name] for name in ([value] if isinstance(value, str) else value)]
        yield source.problem(here, f"must be {' or '.join(words)}", _described(schema))
    elif kind in ("minItems", "minLength"):
        yield source.problem(here, "is empty", _described(schema))
    elif kind == "uniqueItems":
        yield source.problem(here, "names something twice", "remove one of them")
    else:
        shown = json.dumps(error.instance)
        yield source.problem(
            here, f"{shown if len(shown) <= 80 else shown[:77] + '...'} cannot be used", _described(schema)
        )


def _described(schema: Mapping[str, Any]) -> str:
    examples = " or ".join(str(item) for item in schema.get("examples", ()))
    text = str(schema.get("description", ""))
    return f"{text}, for example {examples}" if examples else text
