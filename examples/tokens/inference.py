"""Streams what a causal language model writes, token by token.

The model directory is one that transformers' save_pretrained has written.
"""

import json
import threading

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    TextIteratorStreamer,
)


class Stopped(StoppingCriteria):
    """Ends a generation whose client has left."""

    def __init__(self):
        self.event = threading.Event()

    def __call__(self, tokens, scores, **more):
        return torch.full((len(tokens),), self.event.is_set())


def model_fn(model_dir):
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return tokenizer, AutoModelForCausalLM.from_pretrained(model_dir).eval()


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(request, model):
    tokenizer, network = model
    inputs = tokenizer(request["prompt"], return_tensors="pt")
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    stopped = Stopped()
    writer = threading.Thread(
        target=network.generate,
        kwargs={
            **inputs,
            "streamer": streamer,
            "stopping_criteria": [stopped],
            "max_new_tokens": request.get("max_new_tokens", 64),
            "pad_token_id": tokenizer.eos_token_id,
        },
    )
    writer.start()
    written = 0
    try:
        for text in streamer:
            written += len(text)
            yield text
    finally:  # also when the client leaves in the middle
        stopped.event.set()
        writer.join()
        print(f"wrote {written} characters", flush=True)


def output_fn(prediction, accept):
    return prediction, "text/plain; charset=utf-8"
