"""Whether an answer is what /openapi.json says: the part of JSON Schema that pydantic writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


def check_answer(schema: dict[str, Any], described: str, method: str, answer: httpx.Response) -> None:
    response = schema["paths"][described][method]["responses"][str(answer.status_code)]
    if method == "head" or answer.status_code == 304:
        assert answer.content == b""
        assert "content" not in response
        return
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in response["content"]
    if kind == "application/json":
        faults = list_faults(schema, response["content"][kind]["schema"], answer.json(), "$")
        assert faults == [], described


def list_faults(root: dict[str, Any], schema: dict[str, Any], value: Any, at: str) -> list[str]:
    """Where a value differs from the part of JSON Schema that pydantic writes."""
    if "$ref" in schema:
        return list_faults(root, root["components"]["schemas"][schema["$ref"].rpartition("/")[2]], value, at)
    if "anyOf" in schema:
        tries = [list_faults(root, option, value, at) for option in schema["anyOf"]]
        return min(tries, key=len)
    if "type" in schema and not is_of_type(value, schema["type"]):
        return [f"{at}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    if isinstance(value, dict):
        return list_faults_of_object(root, schema, value, at)
    entries = enumerate(value if isinstance(value, list) else ())
    return [
        fault
        for index, entry in entries
        for fault in list_faults(root, schema["items"], entry, f"{at}[{index}]")
    ]


def list_faults_of_object(
    root: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], at: str
) -> list[str]:
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    faults = [f"{at}: no {name}" for name in schema.get("required", ()) if name not in value]
    for name, entry in value.items():
        below = properties.get(name, rest)
        if below is False:
            faults.append(f"{at}: {name} is not in the schema")
        elif isinstance(below, dict):
            faults += list_faults(root, below, entry, f"{at}.{name}")
    return faults


def is_of_type(value: Any, name: str) -> bool:
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, kinds[name]) and (name == "boolean" or not isinstance(value, bool))
