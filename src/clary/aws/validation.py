"""The constraints of a service model, checked against a parsed request, in AWS's words.

All faults of a request are reported at once, the count first::

    2 validation errors detected: Value null at 'endpointName' failed to satisfy constraint: Member
    must not be null; Value '0' at 'productionVariants.1.member.initialInstanceCount' failed to ...

Paths are lower camel case and count list items from 1, as the Java objects of AWS's services do.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from clary.aws.fault import Fault
from clary.aws.patterns import matches
from clary.aws.service_models import Shape

MAX_SHOWN = 256
"""Most characters of a value in a message."""
MAX_LISTED = 100
"""Most faults that are written out; the count is always that of all."""
MAX_MATCHED = 2048
"""Longer values that break their length are not held against their pattern as well: with some of
the models' patterns that takes time that grows with the square of the length."""


def validate(
    shape: Shape | None, value: Mapping[str, Any], *, code: str = "ValidationException"
) -> None:
    """Check a parsed request.

    Args:
        shape: The operation's input; None when it has none.
        value: As ``parse`` of a protocol returned it.
        code: How the service calls it; query services say ``ValidationError``.

    Raises:
        Fault: With that code and all that is wrong.
    """
    faults = find_faults(shape, value)
    if faults:
        noun = "error" if len(faults) == 1 else "errors"
        raise Fault(
            code,
            f"{len(faults)} validation {noun} detected: {'; '.join(faults[:MAX_LISTED])}",
            400,
        )


def find_faults(shape: Shape | None, value: Mapping[str, Any]) -> list[str]:
    """Return the text of each fault, in the order of the model's members."""
    return list(_check(shape, value, "")) if shape is not None else []


def _check(shape: Any, value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield f"Value null at '{path}' failed to satisfy constraint: Member must not be null"
        return
    for constraint in _broken(shape, value):
        yield _fault(shape, value, path, constraint)
    kind = shape.type_name
    if kind == "structure":
        yield from _check_structure(shape, value, path)
    elif kind == "list":
        for index, item in enumerate(value, 1):
            yield from _check(shape.member, item, f"{path}.{index}.member")
    elif kind == "map":
        yield from _check_map(shape, value, path)


def _check_structure(shape: Any, value: Any, path: str) -> Iterator[str]:
    if getattr(shape, "is_document_type", False) or getattr(shape, "is_eventstream", False):
        return
    if not isinstance(value, Mapping):
        return
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield _fault(shape, value, path, "Member must have exactly one member of the union set")
    required = set(shape.required_members)
    for name, member in shape.members.items():
        if name in value or name in required:
            where = f"{path}.{_lower(name)}" if path else _lower(name)
            yield from _check(member, value.get(name), where)


def _check_map(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    keys: dict[str, None] = {}
    values: dict[str, None] = {}
    is_scalar = shape.value.type_name not in ("structure", "list", "map")
    for key, item in value.items():
        keys.update(dict.fromkeys(_all_constraints(shape.key) if _any(shape.key, key) else ()))
        if not is_scalar:
            yield from _check(shape.value, item, f"{path}.{key}.member")
        elif item is None or _any(shape.value, item):
            texts = _all_constraints(shape.value) if item is not None else ()
            values.update(dict.fromkeys(texts or ("Member must not be null",)))
    # The services report a map as one value, with all that its keys and values have to satisfy.
    if keys:
        yield _fault(shape, value, path, f"Map keys must satisfy constraint: [{', '.join(keys)}]")
    if values:
        text = f"Map value must satisfy constraint: [{', '.join(values)}]"
        yield _fault(shape, value, path, text)


def _any(shape: Any, value: Any) -> bool:
    return next(_broken(shape, value), None) is not None


def _broken(shape: Any, value: Any) -> Iterator[str]:
    """Give the text of each constraint of a shape that a value breaks."""
    traits = shape.metadata
    kind = shape.type_name
    if kind in ("integer", "long", "float", "double"):
        yield from _out_of_range(traits, value, "value")
        return
    is_string = kind == "string"
    too_long = False
    if is_string or kind in ("blob", "list", "map"):
        for text in _out_of_range(traits, len(value), "length"):
            too_long = too_long or "less" in text
            yield text
    if is_string:
        options = traits.get("enum")
        if options and value not in options:
            yield _enum(options)
        pattern = traits.get("pattern")
        if pattern and not (too_long and len(value) > MAX_MATCHED) and not matches(pattern, value):
            yield f"Member must satisfy regular expression pattern: {pattern}"


def _out_of_range(traits: Mapping[str, Any], number: float, noun: str) -> Iterator[str]:
    most, least = traits.get("max"), traits.get("min")
    if most is not None and number > most:
        yield f"Member must have {noun} less than or equal to {most}"
    if least is not None and number < least:
        yield f"Member must have {noun} greater than or equal to {least}"


def _all_constraints(shape: Any) -> tuple[str, ...]:
    """Return the texts of all constraints of a scalar shape, broken or not."""
    traits = shape.metadata
    texts = []
    noun = "value" if shape.type_name in ("integer", "long", "float", "double") else "length"
    if "max" in traits:
        texts.append(f"Member must have {noun} less than or equal to {traits['max']}")
    if "min" in traits:
        texts.append(f"Member must have {noun} greater than or equal to {traits['min']}")
    if "enum" in traits:
        texts.append(_enum(traits["enum"]))
    if "pattern" in traits:
        texts.append(f"Member must satisfy regular expression pattern: {traits['pattern']}")
    return tuple(texts)


def _enum(options: list[str]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(options)}]"


def _fault(shape: Any, value: Any, path: str, constraint: str) -> str:
    shown = "***Sensitive***" if shape.metadata.get("sensitive") else _show(value)
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _show(value: Any) -> str:
    """Write a value as Java's ``toString`` does, and not too much of it."""
    text = "".join(_pieces(value, [MAX_SHOWN + 1]))
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _pieces(value: Any, budget: list[int]) -> Iterator[str]:
    """Give a value's text in pieces until the budget of characters is used up."""
    if budget[0] <= 0:
        return
    if isinstance(value, Mapping | list | tuple):
        yield "{" if isinstance(value, Mapping) else "["
        for index, item in enumerate(value):
            if budget[0] <= 0:
                break
            if index:
                yield ", "
            if isinstance(value, Mapping):
                yield f"{str(item)[:MAX_SHOWN]}="
                budget[0] -= len(str(item)) + 1
                item = value[item]
            yield from _pieces(item, budget)
        yield "}" if isinstance(value, Mapping) else "]"
        return
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = f"{len(value)} bytes"
    else:
        text = "null" if value is None else str(value)
    budget[0] -= len(text)
    yield text[: MAX_SHOWN + 1]


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
