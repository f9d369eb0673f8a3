"""The two ways in which people write what they deploy, from their own source.

A handler around a transformers text classifier with its requirements in the archive, and a FastAPI
server that an image would hold. The handler needs torch: its test is marked slow and is skipped
where no wheel of it lies at hand.
"""

import io
import json
import tarfile
import textwrap
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from model_environments import TORCH, torch_wheels
from server import ROLE, Server, archive

FRAMEWORK_IMAGE = (
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.2.0-cpu-py311-ubuntu20.04"
)
OWN_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/dummy-inference:latest"

# -- a text classifier behind handler functions --------------------------------------------------

REQUIREMENTS = f"{TORCH}\ntransformers\n"

MAKER = '''
"""Makes a DistilBERT of two layers and a few words, as its own environment's libraries save it."""

import io
import json
import os
import tarfile
import tempfile

import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertTokenizerFast,
)

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] this film was great dull a joy to watch slow . !".split()


def model_fn(model_dir):
    torch.manual_seed(7)
    return DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=len(WORDS), dim=32, n_layers=2, n_heads=2, hidden_dim=64,
            max_position_embeddings=64, id2label={0: "DULL", 1: "GREAT"},
            label2id={"DULL": 0, "GREAT": 1},
        )
    ).eval()


def transform_fn(model, data, content_type, accept):
    with tempfile.TemporaryDirectory() as directory:
        vocabulary = os.path.join(directory, "vocab.txt")
        with open(vocabulary, "w") as file:
            file.write("\\n".join(WORDS))
        tokenizer = DistilBertTokenizerFast(vocabulary)
        tokenizer.save_pretrained(directory)
        model.save_pretrained(directory)
        with torch.no_grad():
            batch = tokenizer(json.loads(data), return_tensors="pt", padding=True)
            batch.pop("token_type_ids", None)
            rows = torch.softmax(model(**batch).logits, dim=-1).tolist()
        with open(os.path.join(directory, "expected.json"), "w") as file:
            json.dump(rows, file)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name in sorted(os.listdir(directory)):
                tar.add(os.path.join(directory, name), name)
    return packed.getvalue(), "application/x-tar"
'''

CLASSIFIER = '''
"""Classifies texts by a saved transformers model."""

import json
import logging

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

log = logging.getLogger(__name__)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def model_fn(model_dir: str) -> dict:
    log.warning("loading from %s onto %s", model_dir, device)
    network = AutoModelForSequenceClassification.from_pretrained(model_dir).to(device).eval()
    return {"network": network, "tokenizer": AutoTokenizer.from_pretrained(model_dir)}


def input_fn(request_body: str | bytes, request_content_type: str) -> list[str]:
    if request_content_type != "application/json":
        raise ValueError(f"no texts can be read from {request_content_type}")
    wanted = json.loads(request_body)
    if isinstance(wanted, dict):
        wanted = wanted["texts"] if "texts" in wanted else [wanted["text"]]
    return [wanted] if isinstance(wanted, str) else wanted


def predict_fn(texts: list[str], model: dict) -> dict:
    batch = model["tokenizer"](texts, return_tensors="pt", padding=True, truncation=True)
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        rows = torch.softmax(model["network"](**batch.to(device)).logits, dim=-1)
    winners = rows.argmax(dim=-1).tolist()
    names = model["network"].config.id2label
    return {
        "predictions": winners,
        "probabilities": rows.tolist(),
        "labels": [names[i] for i in winners],
    }


def output_fn(prediction: dict, accept: str) -> tuple[str, str]:
    if accept not in ("application/json", "*/*"):
        raise ValueError(f"{accept} cannot be written")
    return json.dumps(prediction), "application/json"
'''

TEXTS = ["This film was great!", "dull . slow .", "a joy to watch"]


PREPARE_TEXTS = '''
"""First step: the same texts, tidied up."""

import json


def model_fn(model_dir):
    return {}


def input_fn(body, content_type):
    return json.loads(body)["texts"]


def predict_fn(texts, model):
    kept = ("".join(c for c in text.lower() if c.isalnum() or c in " .,!?") for text in texts)
    return {"texts": [text.strip()[:512] for text in kept]}


def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
'''

EXPLAIN = '''
"""Last step: a sentence for each label, and how sure the classifier is."""

import json

SENTENCES = {"GREAT": "The writer liked it", "DULL": "The writer was bored"}


def model_fn(model_dir):
    return {}


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(classified, model):
    return {
        "results": [
            {
                "label": label,
                "sentence": SENTENCES.get(label, label),
                "confidence": round(max(row), 4),
                "tier": "high" if max(row) > 0.9 else "medium" if max(row) > 0.7 else "low",
            }
            for label, row in zip(classified["labels"], classified["probabilities"])
        ]
    }


def output_fn(prediction, accept):
    return json.dumps(prediction), "application/json"
'''

REPOSITORY = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sentiment"


class Transformers(NamedTuple):
    """A server, a saved text classifier, and what that says of ``TEXTS`` when called directly."""

    server: Server
    saved: dict[str, bytes]
    expected: list[list[float]]


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transformers]:
    """Have the model made by a handler, in the environment that its requirements make."""
    directory = tmp_path_factory.mktemp("transformers")
    for step, code in (("preprocessor", PREPARE_TEXTS), ("postprocessor", EXPLAIN)):
        (directory / step).mkdir()
        (directory / step / "inference.py").write_text(code)
    (directory / "clary.toml").write_text(
        "".join(
            f'[[runners]]\nmatch = "{REPOSITORY}:{step}-*"\ncode = "{step}"\n'
            for step in ("preprocessor", "postprocessor")
        )
    )
    with Server(directory, UV_FIND_LINKS=torch_wheels(), CLARY_CONFIG="clary.toml") as server:
        started = time.monotonic()
        server.create_endpoint(
            "maker", {"code/inference.py": MAKER, "code/requirements.txt": REQUIREMENTS}
        )
        server.wait_for_status("maker", "InService", timeout_s=800)
        print(f"built and loaded in {time.monotonic() - started:.1f} s")
        made = server.invoke("maker", json.dumps(TEXTS))
        server.delete_endpoint("maker")
        with tarfile.open(fileobj=io.BytesIO(made)) as tar:
            saved = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        expected = json.loads(saved.pop("expected.json"))
        assert {"config.json", "model.safetensors"} <= saved.keys()
        yield Transformers(server, saved, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_transformers_classifier_runs_with_the_requirements_of_its_archive(
    transformers: Transformers,
) -> None:
    server, saved, expected = transformers
    code = {"inference/handler.py": CLASSIFIER, "requirements.txt": REQUIREMENTS}
    in_code = {**saved, **{f"code/{path}": text for path, text in code.items()}}
    server.s3.put_object(Bucket="models", Key="sourcedir.tar.gz", Body=archive(code))
    ways = {
        "/opt/ml/code": in_code,
        "/opt/ml/model/code": in_code,
        "s3://models/sourcedir.tar.gz": saved,
    }
    for number, (directory, files) in enumerate(ways.items()):
        started = time.monotonic()
        name = f"classifier-{number}"
        server.create_endpoint(
            name,
            files,
            image=FRAMEWORK_IMAGE,
            environment={
                "SAGEMAKER_PROGRAM": "inference/handler.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": directory,
            },
        )
        server.wait_for_status(name, "InService", timeout_s=90)
        print(f"{directory}: in service after {time.monotonic() - started:.1f} s")

        answer = json.loads(server.invoke(name, json.dumps({"texts": TEXTS}), Accept="*/*"))
        assert answer["probabilities"] == [pytest.approx(row, abs=1e-4) for row in expected]
        assert answer["predictions"] == [row.index(max(row)) for row in expected]
        assert answer["labels"] == [["DULL", "GREAT"][i] for i in answer["predictions"]]
        one = json.loads(server.invoke(name, json.dumps({"text": TEXTS[0]})))
        assert one["predictions"] == answer["predictions"][:1]
        with pytest.raises(server.runtime.exceptions.ModelError, match="cannot be written"):
            server.invoke(name, json.dumps("a joy"), Accept="text/csv")
        server.delete_endpoint(name)
    # One environment for all of them: it is known by what is in requirements.txt.
    assert len(list((server.data_dir / "environments").glob("*/bin/python"))) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_between_a_preprocessor_and_a_postprocessor(transformers: Transformers) -> None:
    server, saved, expected = transformers
    code = {"code/inference/handler.py": CLASSIFIER, "code/requirements.txt": REQUIREMENTS}
    server.sagemaker.create_model(
        ModelName="sentiment-pipeline",
        ExecutionRoleArn=ROLE,
        Containers=[
            {"Image": f"{REPOSITORY}:preprocessor-v1", "ContainerHostname": "preprocessor"},
            {
                "Image": f"{REPOSITORY}:model-v1",
                "ModelDataUrl": server.upload({**saved, **code}, "sentiment"),
                "ContainerHostname": "model",
                "Environment": {
                    "SAGEMAKER_PROGRAM": "inference/handler.py",
                    "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/code",
                    "MODEL_MAX_BATCH_SIZE": "32",
                },
            },
            {"Image": f"{REPOSITORY}:postprocessor-v1", "ContainerHostname": "postprocessor"},
        ],
    )
    variant = {
        "VariantName": "primary",
        "ModelName": "sentiment-pipeline",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    }
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="sentiment-pipeline", ProductionVariants=[variant]
    )
    server.sagemaker.create_endpoint(
        EndpointName="sentiment-pipeline", EndpointConfigName="sentiment-pipeline"
    )
    server.wait_for_status("sentiment-pipeline", "InService", timeout_s=120)
    # What the first step takes away and changes, the model does not miss.
    shouted = [f"  {text.upper()} #;" for text in TEXTS]
    answer = json.loads(server.invoke("sentiment-pipeline", json.dumps({"texts": shouted})))
    for result, row in zip(answer["results"], expected, strict=True):
        assert result["label"] == ["DULL", "GREAT"][row.index(max(row))]
        assert result["confidence"] == pytest.approx(max(row), abs=1e-3)
        tiers = {0.9: "high", 0.7: "medium", 0.0: "low"}
        assert result["tier"] == next(tiers[limit] for limit in tiers if max(row) > limit)
        assert result["sentence"].startswith("The writer")


# -- a server of the user's own -------------------------------------------------------------------

FASTAPI_SERVER = '''
"""An order form: what is posted is worked on for a moment and then acknowledged."""

import time

from fastapi import FastAPI, Form
from loguru import logger

app = FastAPI()


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "healthy"}


@app.post("/invocations")
async def invocations(id: str = Form(...), request_id: str = Form(...)) -> str:
    logger.info(f"begin {id} for {request_id}")
    time.sleep(0.05)
    logger.info(f"end {id} for {request_id}")
    return "ok"
'''

FORM = urllib.parse.urlencode({"id": "sku-1", "request_id": "req 7"})
FORM_TYPE = "application/x-www-form-urlencoded"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project as its image would be built from: a server, and what it requires."""
    directory = tmp_path / "order-form"
    directory.mkdir()
    (directory / "server.py").write_text(FASTAPI_SERVER)
    (directory / "requirements.txt").write_text("fastapi\nloguru\npython-multipart\nuvicorn\n")
    return directory


@pytest.fixture
def server(tmp_path: Path, source: Path) -> Iterator[Server]:
    """A server whose table of images knows what the image of the project runs."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clary.toml").write_text(
        textwrap.dedent(f"""
            [[runners]]
            match = "*/dummy-inference:*"
            runner = "command"
            app = "server:app"
            code = "{source}"
        """)
    )
    with Server(tmp_path) as running:
        yield running


def assert_it_takes_forms(server: Server, endpoint: str) -> None:
    assert server.invoke(endpoint, FORM, FORM_TYPE) == b'"ok"'
    log = server.cli("logs", endpoint).stdout
    assert "begin sku-1 for req 7" in log
    with pytest.raises(server.runtime.exceptions.ModelError) as refused:
        server.invoke(endpoint, "id=sku-1", FORM_TYPE)
    assert refused.value.response["OriginalStatusCode"] == 422
    assert "request_id" in refused.value.response["OriginalMessage"]


def test_a_fastapi_server_runs_from_its_own_source(server: Server, source: Path) -> None:
    server.cli("deploy", str(source), "--app", "server:app")
    assert_it_takes_forms(server, "order-form")


def test_a_fastapi_server_stands_for_its_image(server: Server) -> None:
    account = server.sts.get_caller_identity()["Account"]
    assert account in OWN_IMAGE
    server.sagemaker.create_model(
        ModelName="dummy-inference-model",
        PrimaryContainer={"Image": OWN_IMAGE},
        ExecutionRoleArn=ROLE,
    )
    server.sagemaker.create_endpoint_config(
        EndpointConfigName="dummy-inference-config",
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": "dummy-inference-model",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.t2.medium",
            }
        ],
    )
    server.sagemaker.create_endpoint(
        EndpointName="dummy-inference-endpoint", EndpointConfigName="dummy-inference-config"
    )
    server.wait_for_status("dummy-inference-endpoint", "InService")
    assert_it_takes_forms(server, "dummy-inference-endpoint")
