"""Puts what stands below a field of a document into its JSON schema, for /openapi.json.

pydantic can do so itself (`use_attribute_docstrings`), but does it whenever it learns to read a document, and
parses the whole source file for each class: nothing that only reads documents should wait for that.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def describe_fields(schema: dict[str, Any], document: type) -> None:
    """Describe the properties of a document's JSON schema, in place.

    Args:
        schema: the JSON schema of the class, as pydantic made it.
        document: a class at the top level of its module, with a text below each field.
    """
    described = _describe_module(inspect.getsourcefile(document) or "")[document.__name__]
    for name, property_ in schema.get("properties", {}).items():
        property_["description"] = described[name]


@cache
def _describe_module(path: str) -> dict[str, dict[str, str]]:
    """What stands below the fields of all classes of a source file."""
    with open(path, "rb") as source:  # noqa: PTH123 - a module's file, none of the host's
        tree = ast.parse(source.read())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_describe_class(node)) for node in classes}


def _describe_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
