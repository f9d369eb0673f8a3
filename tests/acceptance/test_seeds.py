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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_transformers_classifier_runs_with_the_requirements_of_its_archive(
    tmp_path: Path,
) -> None:
    with Server(tmp_path, UV_FIND_LINKS=torch_wheels()) as server:
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
