#!/usr/bin/env python3
"""validate.py SCHEMA [--lines] - check the JSON on standard input, one value or one on each line, against a schema.

Knows the part of JSON Schema 2020-12 that docs/schema uses, and refuses schemas that use more. An integer beyond 2^53 is an
error whatever the schema says: jq 1.6 and JavaScript do not keep it.
"""
import json
import re
import sys

ANNOTATIONS = {"$schema", "$defs", "title", "description"}
TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}


def errors(value, schema, root, place="$"):
    """Yield a line for each way in which the value breaks the schema."""
    if TYPES["integer"](value) and abs(value) > 2**53:
        yield f"{place}: {value} is beyond 2^53 and no string"
    for key, rule in schema.items():
        if key in ANNOTATIONS:
            continue
        if key == "$ref":
            target = root if rule == "#" else root["$defs"][rule.removeprefix("#/$defs/")]
            yield from errors(value, target, root, place)
        elif key == "type":
            names = rule if isinstance(rule, list) else [rule]
            if not any(TYPES[name](value) for name in names):
                yield f"{place}: {json.dumps(value)[:60]} is no {' or '.join(names)}"
        elif key == "const":
            if value != rule:
                yield f"{place}: {json.dumps(value)[:60]} is not {rule}"
        elif key == "enum":
            if value not in rule:
                yield f"{place}: {json.dumps(value)[:60]} is none of {rule}"
        elif key == "minimum":
            if TYPES["number"](value) and value < rule:
                yield f"{place}: {value} is less than {rule}"
        elif key == "pattern":
            if isinstance(value, str) and not re.search(rule, value):
                yield f"{place}: {value[:60]} does not match {rule}"
        elif key == "required":
            if isinstance(value, dict):
                yield from (f"{place}: no member {name}" for name in rule if name not in value)
        elif key == "properties":
            if isinstance(value, dict):
                for name in rule.keys() & value.keys():
                    yield from errors(value[name], rule[name], root, f"{place}.{name}")
        elif key == "additionalProperties":
            if isinstance(value, dict):
                for name in value.keys() - schema.get("properties", {}).keys():
                    yield from errors(value[name], rule, root, f"{place}.{name}")
        elif key == "items":
            if isinstance(value, list):
                for number, item in enumerate(value):
                    yield from errors(item, rule, root, f"{place}[{number}]")
        elif key == "anyOf":
            tries = [list(errors(value, one, root, place)) for one in rule]
            if all(tries):
                yield from min(tries, key=len)
        else:
            yield f"{place}: the schema uses {key}, which this program does not know"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    text = sys.stdin.read()
    values = [json.loads(line) for line in text.splitlines()] if "--lines" in sys.argv else [json.loads(text)]
    found = [line for value in values for line in errors(value, schema, schema)]
    for line in found[:10]:
        print(line)
    sys.exit(1 if found or not values else 0)


if __name__ == "__main__":
    main()
