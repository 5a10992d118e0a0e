#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_document.py SCHEMA NAME: whether the document on standard input is what the schema calls NAME, without a key
that the schema does not know."""

import json
import sys

import jsonschema


def strict(schema):
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema and schema.get("type") == "object" else {}
    return {key: strict(value) for key, value in schema.items()} | closed


def main():
    path, name = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        schema = strict(json.load(file))
    jsonschema.Draft202012Validator.check_schema(schema)
    schema["$ref"] = f"#/$defs/{name}"
    found = list(jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin)))
    for error in found:
        print(f"{'/'.join(str(part) for part in error.absolute_path)}: {error.message}", file=sys.stderr)
    return bool(found)


sys.exit(main())
