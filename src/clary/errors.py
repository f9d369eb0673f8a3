"""What can go wrong, by meaning.

An error here says what is the matter; only the edges know how one AWS service spells it
(``api/faults.py`` for control APIs, ``gateway/faults.py`` for invocations). This module is
imported by workers, which run in the model's interpreter: standard library only, Python 3.9.
"""

from typing import Optional


class Error(Exception):
    """Root of all errors that Clary raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class RequestError(Error):
    """The caller can mend it."""


class InvalidRequest(RequestError):
    """A value, or a combination of values, that cannot be accepted."""


class AccessDenied(RequestError):
    """Who asks is unknown, or may not do this.

    Args:
        message: What is wrong.
        code: AWS's name for it, where a client matches on it
            (``SignatureDoesNotMatch``, ``InvalidClientTokenId``, ...).
    """

    def __init__(self, message: str = "", code: str = "AccessDeniedException") -> None:
        super().__init__(message)
        self.code = code


class NotFound(RequestError):
    """The thing that was named is not there."""


class AlreadyExists(RequestError):
    """The name is taken."""


class InUse(RequestError):
    """The thing is busy, or something else still needs it."""


class Conflict(RequestError):
    """The thing changed under the caller."""


class LimitExceeded(RequestError):
    """A quota would be passed."""


class InvocationError(Error):
    """An accepted invocation did not work out."""


class ModelFailed(InvocationError):
    """The handler raised, or the container answered with an error status."""

    def __init__(self, message: str = "", status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class ModelNotReady(InvocationError):
    """The model is loading, or being replaced."""


class ModelNotLoaded(InvocationError):
    """A model of a multi-model endpoint is not there, or cannot be loaded.

    Args:
        message: Why, for the caller.
        is_missing: Whether there is no such model, so that the caller has to name another.
    """

    def __init__(self, message: str = "", *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class Overloaded(InvocationError):
    """Refused before any work was done; safe to retry."""


class Throttled(Overloaded):
    """Refused because the caller has as many calls at once as it may have; safe to retry."""


class InvocationTimeout(InvocationError):
    """No answer within the time limit."""


class WorkerLost(InvocationError):
    """The process ended under the invocation."""


class PlatformFault(InvocationError):
    """This server itself failed, neither the caller nor the model."""


class Refused(InvocationError):
    """A bad request that could be seen to be one only after it had waited.

    Its message is the one that the refusal would have had.
    """


class StepBodyTooLarge(InvocationError):
    """A container of a pipeline answered with more than the next one is given."""


class LoopError(Error):
    """Raised by actions, read by control loops."""


class TransientError(LoopError):
    """It may work later: try again."""


class PermanentError(LoopError):
    """Trying again is of no use.

    The message becomes a ``FailureReason`` that a user reads: it says what to do.
    """


class ConfigurationError(Error):
    """A setting is wrong, at start-up.

    Args:
        message: What is wrong and what is allowed.
        setting: Full name of the setting, such as ``gateway.max_body_bytes``.
        source: Where its value came from: a file, an environment variable, a flag.
    """

    def __init__(
        self, message: str = "", setting: Optional[str] = None, source: Optional[str] = None
    ) -> None:
        text = message
        if setting:
            text = f"{setting}: {text}"
        if source:
            text = f"{text} (from {source})"
        super().__init__(text)
        self.setting = setting
        self.source = source
