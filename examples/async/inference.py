"""Sums up a text, slowly: what takes long is the reason for an asynchronous endpoint."""

import json
import re
import time
from collections import Counter

SECONDS_PER_MEGABYTE = 2.0
SHORT = 4
"""Words up to this length say little."""


def model_fn(model_dir):
    return None


def input_fn(data, content_type):
    text = data if isinstance(data, str) else data.decode()
    if not text.strip():
        raise ValueError("the document is empty")
    return text


def predict_fn(text, model):
    time.sleep(SECONDS_PER_MEGABYTE * len(text) / 1e6)
    words = re.findall(r"\w+", text.lower())
    common = Counter(word for word in words if len(word) > SHORT).most_common(5)
    return {"words": len(words), "topics": [word for word, _ in common]}


def output_fn(summary, accept):
    return json.dumps(summary), "application/json"
