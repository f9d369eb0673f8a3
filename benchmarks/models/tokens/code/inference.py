"""Yields parts like a language model's server-sent events, without the time that a model takes.

Each part holds the moment at which it was made. The peers call these very functions.
"""

import asyncio
import json
import time


def model_fn(model_dir):
    return None


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    return STYLES[data["style"]](data["parts"])


def output_fn(prediction, accept):
    return prediction, "text/event-stream"


def generator(count):
    for _ in range(count):
        yield b"data: %d\n\n" % time.monotonic_ns()


async def asynchronous(count):
    """Let others run between two parts, as whatever waits for a model does."""
    for _ in range(count):
        yield b"data: %d\n\n" % time.monotonic_ns()
        await asyncio.sleep(0)


async def unwaiting(count):
    """All parts in one go, as no model makes them: the least that a part can cost."""
    for _ in range(count):
        yield b"data: %d\n\n" % time.monotonic_ns()


STYLES = {"generator": generator, "asynchronous": asynchronous, "unwaiting": unwaiting}
