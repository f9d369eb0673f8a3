"""Commands; a thin front of ``app.py`` and of the public API.

``commands.py`` declares what can be typed; each command imports the module that does it when it is
called, because `clary up` must not wait for boto3 and rich. All but ``up``, ``keys``, ``env`` and
``doctor`` are clients of a running server and go through the API like anybody else.
"""

import sys

from clary.cli.failure import CommandFailed
from clary.errors import ConfigurationError, Error


def main() -> None:
    """Run the command line and end the process with its status.

    0: done. 1: it did not work. 2: a wrong argument or setting. 130: interrupted.
    """
    from clary.cli.commands import app

    try:
        app()
    except CommandFailed as error:
        _end(error, error.status)
    except ConfigurationError as error:
        _end(error, 2)
    except Error as error:
        _end(error, 1)


def _end(error: Error, status: int) -> None:
    # A command that has reported its failure itself ends with an empty message.
    message = str(error)
    if message:
        sys.stderr.write(f"clary: {message}\n")
    sys.exit(status)
