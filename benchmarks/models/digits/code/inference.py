"""A scikit-learn classifier of 8 x 8 images: rows of 64 numbers in, a class for each out.

The peers call these very functions.
"""

import json
import os

import joblib
import numpy


def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))


def input_fn(data, content_type):
    return json.loads(data)


def predict_fn(data, model):
    return {"predictions": model.predict(numpy.array(data["instances"])).tolist()}


def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
