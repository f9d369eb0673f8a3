"""JSON in, the same JSON out: all that is measured is the way there. Other types pass as they are.

The peers call these very functions.
"""

import json


def model_fn(model_dir):
    return None


def input_fn(data, content_type):
    return json.loads(data) if content_type == "application/json" else data


def predict_fn(data, model):
    return data


def output_fn(prediction, accept):
    if isinstance(prediction, bytes):
        return prediction, "application/octet-stream"
    return json.dumps(prediction), "application/json"
