"""A call that takes 5 ms, however many rows it is for: what batching is made for."""

import time


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    time.sleep(0.005)
    return data.sum(axis=1)
