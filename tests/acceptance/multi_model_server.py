"""A server of a user's own that implements SageMaker's multi-model API, standard library only."""

import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MAX_LOADED = int(os.environ["MAX_LOADED"])
LOADED: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ping":
            self.answer(200, {})
        elif self.path.startswith("/models"):
            models = [{"modelName": name, "modelUrl": url} for name, url in LOADED.items()]
            self.answer(200, {"models": models})

    def do_DELETE(self):
        self.answer(200 if LOADED.pop(self.path.rsplit("/", 1)[1], None) else 404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path == "/models":
            self.answer(*load(body["model_name"], body["url"]))
            return
        name = re.fullmatch("/models/(.*)/invoke", self.path)[1]
        if name not in LOADED:
            self.answer(404, {})
        elif body.get("needs_room") and len(LOADED) > 1:
            self.answer(507, {})
        elif body.get("forget") and not os.path.exists("forgotten"):
            Path("forgotten").touch()
            del LOADED[name]
            self.answer(404, {})
        else:
            answer = {
                "model": Path(LOADED[name], "name.txt").read_text(),
                "multi_model": os.environ.get("SAGEMAKER_MULTI_MODEL"),
                "target": self.headers["X-Amzn-SageMaker-Target-Model"],
            }
            self.answer(200, answer)

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


def load(name, url):
    if name in LOADED:
        return 409, {}
    if len(LOADED) >= MAX_LOADED:
        return 507, {}
    if Path(url, "bad").exists():
        return 500, {"error": "this model is bad"}
    LOADED[name] = url
    return 200, {}


ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler
).serve_forever()
