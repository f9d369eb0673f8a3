"""How a command says that it did not work."""

from clary.errors import Error


class CommandFailed(Error):
    """A command ends here, with one clear message on standard error.

    Args:
        message: What went wrong and what to do; empty when it has been printed already.
        status: Exit status of the process.
    """

    def __init__(self, message: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.status = status
