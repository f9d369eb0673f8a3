"""A model behind MLServer, in its one process: parallel workers only slow small models down."""

import os

import inference
import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec


class Echo(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        text = StringCodec.decode_input(payload.inputs[0])
        output = inference.predict_fn(text, None)
        return self._response(StringCodec.encode_output("data", output))

    def _response(self, output):
        from mlserver.types import InferenceResponse

        return InferenceResponse(model_name=self.name, outputs=[output])


class Digits(Echo):
    async def load(self):
        self.model = inference.model_fn(os.environ["MODEL_DIR"])
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = inference.predict_fn({"instances": rows}, self.model)
        classes = numpy.array(output["predictions"])
        return self._response(NumpyCodec.encode_output("predictions", classes))


class Slow(Echo):
    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        return self._response(NumpyCodec.encode_output("sums", inference.predict_fn(rows, None)))
