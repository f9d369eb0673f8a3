"""A model behind BentoML, one worker process."""

import os

import bentoml
import inference
import numpy


@bentoml.service(workers=1)
class Echo:
    @bentoml.api(route="/invocations")
    def invocations(self, data: str) -> dict:
        return inference.predict_fn({"data": data}, None)


@bentoml.service(workers=1)
class Digits:
    def __init__(self) -> None:
        self.model = inference.model_fn(os.environ["MODEL_DIR"])

    @bentoml.api(route="/invocations")
    def invocations(self, instances: list) -> dict:
        return inference.predict_fn({"instances": instances}, self.model)


@bentoml.service(workers=1)
class Slow:
    @bentoml.api(route="/invocations", batchable=True, max_batch_size=32, max_latency_ms=10000)
    def invocations(self, instances: numpy.ndarray) -> numpy.ndarray:
        return inference.predict_fn(instances, None)
