"""A model behind TorchServe: one call for what the server has gathered."""

import inference
import numpy


class Handler:
    def initialize(self, context):
        self.model = inference.model_fn(context.system_properties.get("model_dir"))

    def handle(self, requests, context):
        bodies = [request.get("body") or request.get("data") for request in requests]
        if len(bodies) == 1 and not isinstance(bodies[0], list):
            return [inference.predict_fn(bodies[0], self.model)]
        rows = numpy.concatenate([numpy.array(body) for body in bodies])
        return [[value] for value in inference.predict_fn(rows, self.model).tolist()]
