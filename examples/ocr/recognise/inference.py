"""Third step: reads the lines."""

import io
import json

import numpy as np
from rapidocr_onnxruntime.ch_ppocr_rec import TextRecognizer
from rapidocr_onnxruntime.main import DEFAULT_CFG_PATH
from rapidocr_onnxruntime.utils import read_yaml, update_model_path


def model_fn(model_dir):
    return TextRecognizer(update_model_path(read_yaml(DEFAULT_CFG_PATH))["Rec"])


def input_fn(body, content_type):
    arrays = np.load(io.BytesIO(body))
    lines = [arrays[f"arr_{n}"] for n in range(len(arrays["boxes"]))]
    return arrays["boxes"].tolist(), arrays["angles"].tolist(), lines


def predict_fn(page, recognizer):
    boxes, angles, lines = page
    read = recognizer(lines)[0] if lines else []
    return [
        {"text": text, "score": float(score), "box": box, "angle": angle}
        for (text, score, *_), box, angle in zip(read, boxes, angles, strict=True)
    ]


def output_fn(lines, accept):
    return json.dumps({"lines": lines}, ensure_ascii=False), "application/json"
