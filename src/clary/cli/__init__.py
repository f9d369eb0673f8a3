"""Commands; a thin front of ``app.py`` and of the public API.

``commands.py`` declares what can be typed; each command imports the module that does it when it is
called, because `clary up` must not wait for boto3 and rich. All but ``up``, ``keys``, ``env`` and
``doctor`` are clients of a running server and go through the API like anybody else.
"""

import os
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
    except ConfigurationError as error:
        _say(str(error))
        sys.exit(2)
    except CommandFailed as error:
        _say(error.message)
        sys.exit(error.status)
    except Error as error:
        _say(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `clary logs | head`: whoever read us has left, and wants no more words. Standard output
        # is pointed elsewhere so that the interpreter's last flush does not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _say(message: str) -> None:
    if message:
        sys.stderr.write(f"clary: {message}\n")
