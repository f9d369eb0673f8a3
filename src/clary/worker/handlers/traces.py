"""Tracebacks for the person who wrote the handler: from their first line on, without ours."""

import os
import traceback

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
"""Where this package's files lie."""


def format_trace(error: BaseException) -> str:
    """Return the traceback of an exception, our frames and the import system's left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((OURS, "<frozen ")):
        trace = trace.tb_next
    # Where all frames are ours, as with a codec's error, the shortest form says it.
    return "".join(traceback.format_exception(type(error), error, trace))
