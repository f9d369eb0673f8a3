"""Handlers that tests deploy."""

ECHO = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""

SLOW_TO_LOAD = "import time\ntime.sleep(2)\n" + ECHO

FAILING_TO_LOAD = "import no_such_module_anywhere\n"
