"""Turns texts into vectors of length 1, by a sentence transformer.

Deploy it with a model directory as sentence-transformers publishes them (all-MiniLM-L6-v2, ...) and
MODEL_MAX_BATCH_SIZE in the environment: texts of different requests are then embedded together.
"""

import json

import torch
from transformers import AutoModel, AutoTokenizer


def model_fn(model_dir):
    return AutoTokenizer.from_pretrained(model_dir), AutoModel.from_pretrained(model_dir).eval()


def input_fn(body, content_type):
    # Rows: what several requests bring is put one after another (docs/guides/batching.md).
    return [{"text": text} for text in json.loads(body)["texts"]]


def predict_fn(rows, model):
    tokenizer, network = model
    texts = tokenizer(
        [row["text"] for row in rows],
        padding=True,
        truncation=True,
        max_length=256,
        return_tensors="pt",
    )
    with torch.no_grad():
        tokens = network(**texts).last_hidden_state
    is_text = texts["attention_mask"].unsqueeze(-1)
    means = (tokens * is_text).sum(1) / is_text.sum(1)
    return torch.nn.functional.normalize(means).numpy()


def output_fn(vectors, accept):
    return json.dumps(vectors.tolist()), "application/json"
