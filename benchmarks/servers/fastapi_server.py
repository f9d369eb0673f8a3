"""What people write instead: a model behind FastAPI, in the ways that they write it.

Started by uvicorn with the directory of ``inference.py`` on the path and ``MODEL_DIR`` set.
"""

import os
from typing import Annotated, Any

import inference
from fastapi import Body, FastAPI, Request, Response
from fastapi.responses import StreamingResponse

model = inference.model_fn(os.environ["MODEL_DIR"])

with_async_def = FastAPI()
with_def = FastAPI()
with_raw_body = FastAPI()
with_streams = FastAPI()


@with_async_def.get("/ping")
@with_def.get("/ping")
@with_raw_body.get("/ping")
@with_streams.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "ok"}


@with_async_def.post("/invocations")
async def invoke_async(payload: Annotated[Any, Body()]) -> Any:
    return inference.predict_fn(payload, model)


@with_def.post("/invocations")
def invoke(payload: Annotated[Any, Body()]) -> Any:
    return inference.predict_fn(payload, model)


@with_raw_body.post("/invocations")
async def invoke_raw(request: Request) -> Response:
    """The least that FastAPI can do: no validation, no serialisation of its own."""
    data = inference.input_fn(await request.body(), request.headers["content-type"])
    body, content_type = inference.output_fn(inference.predict_fn(data, model), "*/*")
    return Response(body, media_type=content_type)


@with_streams.post("/invocations")
async def invoke_stream(payload: Annotated[Any, Body()]) -> StreamingResponse:
    parts = inference.predict_fn(payload, model)
    return StreamingResponse(parts, media_type="text/event-stream")
