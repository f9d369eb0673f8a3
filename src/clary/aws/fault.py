"""What goes wrong, as an AWS service says it: a code, a message, and members that its model names.

Faults are raised here for what the wire protocols find, and by the table of the API's edge for
everything else. How a fault looks in each protocol is the protocols' business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import ServiceModel


class Fault(Exception):
    """An error reply.

    Args:
        code: The service's name for it, such as ``ValidationException``.
        message: Text for people.
        status: HTTP status; None: the one that the service's model gives this error, else 400.
        fields: Further members of the modelled error, such as ``OriginalStatusCode``.
        sender: Whether the caller is to blame; None: by the status.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        status: int | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        sender: bool | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.fields = dict(fields or {})
        self.sender = sender


def serialization_fault(message: str) -> Fault:
    """Return the fault for a body that does not have the types of its model."""
    return Fault("SerializationException", message, 400)


@dataclass(frozen=True, slots=True)
class FaultForm:
    """A fault with all that its service's model says about it."""

    code: str
    """On the wire; query services have codes that differ from the names of their shapes."""
    message: str
    status: int
    is_sender: bool
    shape: Any
    """The error's shape; None when the service's model does not name it."""
    members: Mapping[str, Any]
    """Modelled members with the message among them; just the message without a shape."""


def resolve_fault(service_model: ServiceModel | None, fault: Fault) -> FaultForm:
    """Look a fault up in its service's model."""
    shape = _find_error_shape(service_model, fault.code) if service_model else None
    error: Mapping[str, Any] = shape.metadata.get("error", {}) if shape is not None else {}
    is_fault = shape is not None and bool(shape.metadata.get("fault") or error.get("fault"))
    status = fault.status or error.get("httpStatusCode") or (500 if is_fault else 400)
    members: dict[str, Any]
    if shape is None:
        members = {"message": fault.message}
    else:
        members = {name: fault.fields[name] for name in shape.members if name in fault.fields}
        name = next((name for name in shape.members if name.lower() == "message"), None)
        if name is not None:
            members.setdefault(name, fault.message)
    return FaultForm(
        code=error.get("code", fault.code),
        message=fault.message,
        status=status,
        is_sender=status < 500 if fault.sender is None else fault.sender,
        shape=shape,
        members=members,
    )


def with_message(form: FaultForm, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return serialised members with the message: some models' shapes have no member for it."""
    if any(name.lower() == "message" for name in members):
        return dict(members)
    return {**members, "message": form.message}


def _find_error_shape(service_model: ServiceModel, code: str) -> Any:
    shapes: Iterable[Any] = service_model.error_shapes
    return next((shape for shape in shapes if code in (shape.name, shape.error_code)), None)
