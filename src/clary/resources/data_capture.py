"""Data capture: which share of an endpoint's calls is kept, what of them, and where.

The value of a configuration's ``DataCaptureConfig`` (endpoints.md 7), as routes carry it to the
gateways.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clary.errors import InvalidRequest

CSV_TYPES = ("text/csv",)
JSON_TYPES = ("application/json",)
"""Text in a record whatever ``CaptureContentTypeHeader`` says, which names further types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """Captures that are to be taken."""

    share: float
    """Share of the calls, more than 0 and up to 1."""

    destination: str
    """``s3://bucket/prefix`` without a slash at its end."""

    takes_input: bool
    takes_output: bool
    csv_types: tuple[str, ...] = CSV_TYPES
    """Content types in lower case, without parameters."""

    json_types: tuple[str, ...] = JSON_TYPES

    def encoding(self, content_type: str) -> str:
        """Return how a body of this type stands in a record: ``CSV``, ``JSON`` or ``BASE64``."""
        bare = content_type.partition(";")[0].strip().lower()
        if bare in self.csv_types:
            return "CSV"
        return "JSON" if bare in self.json_types else "BASE64"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DataCapture":
        """Return the value whose members ``dataclasses.asdict`` wrote."""
        return cls(
            share=float(data["share"]),
            destination=data["destination"],
            takes_input=bool(data["takes_input"]),
            takes_output=bool(data["takes_output"]),
            csv_types=tuple(data["csv_types"]),
            json_types=tuple(data["json_types"]),
        )


def is_enabled(config: Mapping[str, Any]) -> bool:
    """Whether a ``DataCaptureConfig`` wants captures: yes, unless it says no."""
    return bool(config.get("EnableCapture", True))


def active_capture(config: Mapping[str, Any] | None) -> DataCapture | None:
    """Return what a ``DataCaptureConfig`` asks for; None: nothing is to be captured."""
    if config is None or not is_enabled(config) or not config["InitialSamplingPercentage"]:
        return None
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    further = config.get("CaptureContentTypeHeader", {})
    return DataCapture(
        share=config["InitialSamplingPercentage"] / 100,
        destination=config["DestinationS3Uri"].rstrip("/"),
        takes_input=not modes.isdisjoint({"Input", "InputAndOutput"}),
        takes_output=not modes.isdisjoint({"Output", "InputAndOutput"}),
        csv_types=_with(CSV_TYPES, further.get("CsvContentTypes", ())),
        json_types=_with(JSON_TYPES, further.get("JsonContentTypes", ())),
    )


def check_capture(config: Mapping[str, Any] | None) -> None:
    """Refuse a ``DataCaptureConfig`` whose captures would have no place.

    Raises:
        InvalidRequest: Its destination is no place in S3.
    """
    if config is None:
        return
    scheme, _, place = config["DestinationS3Uri"].partition("://")
    if scheme != "s3" or not place.partition("/")[0]:
        raise InvalidRequest(
            f'The DestinationS3Uri "{config["DestinationS3Uri"]}" of the DataCaptureConfig is no '
            "place in S3: use s3://bucket or s3://bucket/prefix."
        )


def _with(known: tuple[str, ...], further: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *(name.lower() for name in further))))
