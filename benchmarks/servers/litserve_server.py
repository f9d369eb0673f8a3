"""A model behind LitServe, one worker process.

python litserve_server.py PORT plain|batched
"""

import os
import sys

import inference
import litserve
import numpy


class Plain(litserve.LitAPI):
    def setup(self, device):
        self.model = inference.model_fn(os.environ["MODEL_DIR"])

    def decode_request(self, request):
        return request

    def predict(self, data):
        return inference.predict_fn(data, self.model)

    def encode_response(self, output):
        return output


class Batched(Plain):
    def decode_request(self, request):
        return numpy.array(request["instances"])

    def batch(self, inputs):
        return numpy.concatenate(inputs)

    def unbatch(self, output):
        return [[value] for value in output.tolist()]


if __name__ == "__main__":
    port, style = sys.argv[1:]
    if style == "batched":
        api = Batched(max_batch_size=32, batch_timeout=0.005, api_path="/invocations")
    else:
        api = Plain(api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
