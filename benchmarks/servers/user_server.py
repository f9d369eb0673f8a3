"""A server of a user's own, as they deploy it with `--app server:app`."""

from typing import Annotated, Any

from fastapi import Body, FastAPI

app = FastAPI()


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/invocations")
async def invocations(payload: Annotated[Any, Body()]) -> Any:
    return payload
