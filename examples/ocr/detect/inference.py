"""First step: finds the lines of text on a page, and cuts each one out."""

import io

import cv2
import numpy as np
from rapidocr_onnxruntime.ch_ppocr_det import TextDetector
from rapidocr_onnxruntime.main import DEFAULT_CFG_PATH, RapidOCR
from rapidocr_onnxruntime.utils import read_yaml, update_model_path


def model_fn(model_dir):
    return TextDetector(update_model_path(read_yaml(DEFAULT_CFG_PATH))["Det"])


def input_fn(body, content_type):
    page = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    if page is None:
        raise ValueError(f"no image can be read from {content_type}")
    return page


def predict_fn(page, detector):
    found, _ = detector(page)
    boxes = [] if found is None or len(found) == 0 else RapidOCR.sorted_boxes(found)
    return boxes, [cut_out(page, box) for box in boxes]


def cut_out(page, box):
    """Return what is inside four corners, as an upright image."""
    top, right, bottom, left = (np.linalg.norm(box[n] - box[(n + 1) % 4]) for n in range(4))
    width, height = int(max(top, bottom)), int(max(right, left))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    line = cv2.warpPerspective(
        page,
        cv2.getPerspectiveTransform(box, corners),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_CUBIC,
    )
    return np.rot90(line) if height >= 1.5 * width else line


def output_fn(prediction, accept):
    boxes, lines = prediction
    packed = io.BytesIO()
    np.savez(packed, *lines, boxes=np.array(boxes))
    return packed.getvalue(), "application/x-npz"
