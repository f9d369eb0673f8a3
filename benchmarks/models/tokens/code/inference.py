"""Yields parts like a language model's server-sent events, without the time that a model takes.

Each part holds the moment at which it was made. The peers call these very functions.
"""

import json
import time


def model_fn(model_dir):
    return None


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    return tokens_async(data["parts"]) if data["style"] == "async" else tokens(data["parts"])


def output_fn(prediction, accept):
    return prediction, "text/event-stream"


def tokens(count):
    for _ in range(count):
        yield b"data: %d\n\n" % time.monotonic_ns()


async def tokens_async(count):
    for _ in range(count):
        yield b"data: %d\n\n" % time.monotonic_ns()
