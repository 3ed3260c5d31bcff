"""A reward server to begin from: one file, the standard library and Pillow. README.md is the protocol.

    python docs/remote_reward/server.py --port 8765

Put your own model into `score`, and change `SPEC["version"]` whenever its values would change.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image, ImageStat

SPEC = {
    "version": "1",
    "title": "contrast (example server)",
    "kind": "pointwise",
    "low": 0.0,
    "high": 1.0,
    "licence": "Apache-2.0",
    "measures": "The standard deviation of the grey values, as a share of the largest there can be.",
}
MAX_REQUEST = 256 * 2**20


def score(image: Image.Image, prompt: str) -> float | str:
    """A value for one RGB image, higher is better; or a sentence that says why there is none."""
    del prompt
    return ImageStat.Stat(image.convert("L")).stddev[0] / 127.5


def score_all(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to POST /score."""
    images, prompts = question["images"], question["prompts"]
    found = []
    for image, prompt in zip(images, prompts, strict=True):
        opened = Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")
        found.append(score(opened, prompt))
    return {
        "version": SPEC["version"],
        "values": [one if isinstance(one, float) else None for one in found],
        "reasons": [one if isinstance(one, str) else None for one in found],
    }


class Handler(BaseHTTPRequestHandler):
    """GET /spec and POST /score."""

    def do_GET(self) -> None:
        if self.path == "/spec":
            self.answer(200, SPEC)
        else:
            self.answer(404, {"error": "there are /spec and /score"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/score" or length > MAX_REQUEST:
            self.answer(404, {"error": f"POST /score takes up to {MAX_REQUEST} bytes"})
            return
        try:
            self.answer(200, score_all(json.loads(self.rfile.read(length))))
        except (KeyError, OSError, TypeError, ValueError) as error:
            self.answer(400, {"error": f"{type(error).__name__}: {error}"})

    def answer(self, status: int, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description="Scores images for FlowGRPO Studio.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one")
    given = parser.parse_args()
    with ThreadingHTTPServer((given.host, given.port), Handler) as server:
        print(f"listening on http://{server.server_address[0]}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
