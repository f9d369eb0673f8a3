"""A server of your own: whatever answers /ping and /invocations.

Deploy it with: clary deploy examples/sentiment --app server:app
"""

from fastapi import FastAPI
from pydantic import BaseModel

GOOD = {"good", "great", "love", "nice", "fast", "happy", "works"}
BAD = {"bad", "awful", "hate", "slow", "broken", "sad", "fails"}

app = FastAPI()


class Review(BaseModel):
    text: str


@app.get("/ping")
async def ping() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/invocations")
async def invocations(review: Review) -> dict[str, object]:
    words = set(review.text.lower().replace(",", " ").replace(".", " ").split())
    score = len(words & GOOD) - len(words & BAD)
    label = "positive" if score > 0 else "negative" if score < 0 else "neutral"
    return {"label": label, "score": score}
