"""XML documents by the shapes of a model; shared by ``rest-xml`` and ``query``."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from clary.aws.fault import Fault
from clary.aws.protocols.base import MAX_DEPTH
from clary.aws.protocols.json_values import is_emptied
from clary.aws.protocols.texts import format_scalar, parse_scalar
from clary.aws.service_models import Shape

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Node:
    """An element: local name, attributes, text and children."""

    name: str
    attributes: Mapping[str, str]
    text: list[str] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)


def load_xml(body: bytes) -> Node:
    """Return the root of a document.

    Raises:
        Fault: ``MalformedXML``: it is none, has a DTD (and with it entities, which can be made to
            explode), or is too deeply nested.
    """
    root = Node("", {})
    stack = [root]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            raise _malformed("The XML you provided is nested too deeply.")
        node = Node(name.rpartition(":")[2], attributes)
        stack[-1].children.append(node)
        stack.append(node)

    def refuse(*_: Any) -> None:
        raise _malformed("The XML you provided has a document type declaration.")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = lambda text: stack[-1].text.append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise _malformed() from error
    return root.children[0]


def parse_node(shape: Shape, node: Node) -> Any:
    """Return an element's value by its shape.

    Raises:
        Fault: A text is no value of its shape.
    """
    kind = shape.type_name
    if kind == "structure":
        return _parse_structure(shape, node)
    if kind == "list":
        name = shape.member.serialization.get("name", "member")
        return [parse_node(shape.member, child) for child in node.children if child.name == name]
    if kind == "map":
        return _parse_map(shape, [child for child in node.children if child.name == "entry"])
    text = "".join(node.text)
    return parse_scalar(shape, text if kind == "string" else text.strip())


def _parse_structure(shape: Shape, node: Node) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    children: dict[str, list[Node]] = {}
    for child in node.children:
        children.setdefault(child.name, []).append(child)
    for name, member in shape.members.items():
        if "location" in member.serialization:
            continue
        wire_name = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            local = wire_name.rpartition(":")[2]
            for attribute, text in node.attributes.items():
                if attribute in (wire_name, local) or attribute.endswith(f":{local}"):
                    parsed[name] = parse_scalar(member, text)
            continue
        if member.type_name == "list" and member.serialization.get("flattened"):
            wire_name = member.serialization.get("name") or member.member.serialization.get(
                "name", name
            )
        found = children.get(wire_name)
        if not found:
            continue
        if member.serialization.get("flattened") and member.type_name == "list":
            parsed[name] = [parse_node(member.member, child) for child in found]
        elif member.serialization.get("flattened") and member.type_name == "map":
            parsed[name] = _parse_map(member, found)
        else:
            parsed[name] = parse_node(member, found[0])
    return parsed


def _parse_map(shape: Shape, entries: list[Node]) -> dict[Any, Any]:
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    parsed = {}
    for entry in entries:
        keys = [child for child in entry.children if child.name == key_name]
        values = [child for child in entry.children if child.name == value_name]
        if len(keys) != 1 or len(values) != 1:
            raise _malformed()
        parsed[parse_node(shape.key, keys[0])] = parse_node(shape.value, values[0])
    return parsed


def element(name: str, content: str, attributes: str = "") -> str:
    """Return an element; content and attributes are XML already."""
    return f"<{name}{attributes}>{content}</{name}>"


def namespace_attribute(uri: str | None) -> str:
    """Return the attribute of a default namespace, with its leading blank."""
    return f" xmlns={quoteattr(uri)}" if uri else ""


def text_content(text: str) -> str:
    """Return text as the content of an element.

    Characters that XML 1.0 cannot hold become U+FFFD: one such object key must not make a whole
    listing unreadable. Clients ask for ``encoding-type=url`` to get them right.
    """
    return escape(_NO_XML.sub("\ufffd", text), {"\r": "&#13;"})


def serialize_structure(shape: Shape, values: Mapping[str, Any]) -> str:
    """Return the content of a structure's element, without the members that are None.

    Raises:
        ValueError: A member is unknown to the model.
    """
    unknown = set(values) - set(shape.members)
    if unknown:
        raise ValueError(f"{shape.name} has no member {min(unknown)}")
    parts: list[str] = []
    for name, member in shape.members.items():
        value = values.get(name)
        if value is None or is_emptied(value) or "location" in member.serialization:
            continue
        if not member.serialization.get("xmlAttribute"):
            parts.extend(serialize_member(member, value, member.serialization.get("name"), name))
    return "".join(parts)


def serialize_member(
    shape: Shape, value: Any, wire_name: str | None, default: str
) -> Iterator[str]:
    """Give the elements of a member: one, or as many as a flattened list has items."""
    name = wire_name or default
    kind = shape.type_name
    flattened = bool(shape.serialization.get("flattened"))
    if kind == "structure":
        attributes = _attributes(shape, value)
        yield element(name, serialize_structure(shape, value), attributes)
    elif kind == "list":
        if flattened:
            item_name = wire_name or shape.member.serialization.get("name", default)
        else:
            item_name = shape.member.serialization.get("name", "member")
        items = (
            part
            for item in value
            if item is not None
            for part in serialize_member(shape.member, item, item_name, item_name)
        )
        if flattened:
            yield from items
        else:
            yield element(name, "".join(items))
    elif kind == "map":
        entries = [_entry(shape, key, item) for key, item in value.items() if item is not None]
        if flattened:
            yield from (element(name, entry) for entry in entries)
        else:
            yield element(name, "".join(element("entry", entry) for entry in entries))
    else:
        yield element(name, text_content(format_scalar(shape, value)))


def _entry(shape: Shape, key: Any, value: Any) -> str:
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    return "".join(
        (
            *serialize_member(shape.key, key, key_name, key_name),
            *serialize_member(shape.value, value, value_name, value_name),
        )
    )


def _attributes(shape: Shape, values: Mapping[str, Any]) -> str:
    parts = []
    namespace = shape.serialization.get("xmlNamespace")
    if isinstance(namespace, Mapping):
        prefix = namespace.get("prefix")
        parts.append(f" xmlns{':' + prefix if prefix else ''}={quoteattr(namespace['uri'])}")
    for name, member in shape.members.items():
        if member.serialization.get("xmlAttribute") and values.get(name) is not None:
            text = _NO_XML.sub("\ufffd", format_scalar(member, values[name]))
            parts.append(f" {member.serialization.get('name', name)}={quoteattr(text)}")
    return "".join(parts)


def _malformed(message: str = "") -> Fault:
    text = message or (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )
    return Fault("MalformedXML", text, 400)
