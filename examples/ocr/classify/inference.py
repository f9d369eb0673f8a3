"""Second step: turns lines that are upside down."""

import io

import numpy as np
from rapidocr_onnxruntime.ch_ppocr_cls import TextClassifier
from rapidocr_onnxruntime.main import DEFAULT_CFG_PATH
from rapidocr_onnxruntime.utils import read_yaml, update_model_path


def model_fn(model_dir):
    return TextClassifier(update_model_path(read_yaml(DEFAULT_CFG_PATH))["Cls"])


def input_fn(body, content_type):
    arrays = np.load(io.BytesIO(body))
    return arrays["boxes"], [arrays[f"arr_{n}"] for n in range(len(arrays["boxes"]))]


def predict_fn(page, classifier):
    boxes, lines = page
    upright, angles, _ = classifier(lines) if lines else ([], [], 0)
    return boxes, upright, [int(angle) for angle, _ in angles]


def output_fn(prediction, accept):
    boxes, lines, angles = prediction
    packed = io.BytesIO()
    np.savez(packed, *lines, boxes=boxes, angles=np.array(angles, int))
    return packed.getvalue(), "application/x-npz"
