"""What CloudWatch has codes of its own for, beside an invalid value."""

from clary.errors import InvalidRequest


class InvalidCombination(InvalidRequest):
    """Parameters that exclude each other."""


class MissingParameter(InvalidRequest):
    """A parameter that has to be there, by a rule that no service model states."""


class InvalidDashboard(InvalidRequest):
    """A dashboard with a wrong name or body."""


class InvalidToken(InvalidRequest):
    """A token for a next page that this server did not give."""


class InvalidFormat(InvalidRequest):
    """Text that is not the JSON that it has to be."""
