"""A server of a user's own with the adapter API of SageMaker's containers."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ADAPTERS: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {})

    def do_DELETE(self):
        self.answer(200 if ADAPTERS.pop(self.path.rsplit("/", 1)[1], None) else 404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path == "/adapters":
            weights = Path(body["src"], "weights.txt").read_text()
            if weights == "bad":
                self.answer(400, {"error": "these are no weights"})
                return
            ADAPTERS[body["name"]] = weights
            self.answer(200, {})
            return
        if body.get("die"):
            os._exit(1)
        name = self.headers["X-Amzn-SageMaker-Adapter-Identifier"]
        if name is not None and name not in ADAPTERS:
            self.answer(404, {"error": f"no adapter {name}"})
        else:
            self.answer(200, {"adapter": ADAPTERS.get(name), "pid": os.getpid()})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
