"""Several requests in one call of ``predict_fn``.

Each request is decoded and encoded on its own, with its own headers, Accept and errors; only the
call between is shared. How inputs become one:

- With ``batch_fn(inputs)`` and ``unbatch_fn(prediction, count)`` the user says it. ``inputs`` is
  the list of what ``input_fn`` returned, one for each request; ``unbatch_fn`` returns a list of
  ``count`` predictions in the same order. ``predict_fn`` then gets a batch with every call, be it
  of one request, and also where batching is off. ``transform_fn`` gets a batch of bodies, of
  requests of one content type and Accept; ``unbatch_fn`` returns a list of what it would have
  returned for each.
- Without them inputs that stack are stacked (``stacking.py``), and all others are alone. The first
  stacked call is checked: its requests are also called one by one, and if the predictions differ,
  batching is over for this worker. A ``predict_fn`` that takes the context might look at its
  request's headers, and ``transform_fn`` keeps its input to itself, so that neither is stacked.

When a shared call fails in any way, its requests are called one by one: the one that was bad gets
its error, the others their answers.
"""

import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from clary.worker import codecs
from clary.worker.batcher import Batching
from clary.worker.handlers.base import Reply
from clary.worker.handlers.context import BatchContext, Context, SystemProperties
from clary.worker.handlers.functions import (
    INVOCATIONS,
    FunctionsHandler,
    RequestPlan,
    default_encode,
    default_predict,
    with_context,
)
from clary.worker.handlers.module import UserFunction
from clary.worker.handlers.stacking import CannotSplit, agree, shape_of, split, stack

SAMPLE = 4
"""Requests of the call that is checked: few, for it takes as many calls more."""
LOG_EVERY_S = 10.0

Answers = List[Tuple[int, Reply]]


class Item(NamedTuple):
    """One request of a batch, decoded."""

    place: int
    value: Any
    content_type: str
    accept: str
    context: Optional[Context]
    size: int
    """Rows, where inputs are stacked."""


class BatchingHandler(FunctionsHandler):
    """User functions of a model whose environment asks for batches."""

    def __init__(
        self,
        functions: Dict[str, UserFunction],
        batch_functions: Dict[str, UserFunction],
        model: Any,
        properties: SystemProperties,
        batching: Batching,
        **options: Any,
    ) -> None:
        """Join the functions.

        Args:
            functions: As ``find_functions`` returns them; none of them asynchronous.
            batch_functions: ``batch_fn`` and ``unbatch_fn``, or nothing.
            model: What ``model_fn`` returned.
            properties: For the context of each request.
            batching: What the environment asks for.
            **options: As for ``FunctionsHandler``.
        """
        super().__init__(
            with_batches_of_one(functions, batch_functions), model, properties, **options
        )
        self.batching = batching
        self.is_batching = True
        self._properties_of_batch = properties
        self._model = model
        self._batch = batch_functions["batch_fn"].call if batch_functions else None
        self._unbatch = batch_functions["unbatch_fn"].call if batch_functions else None
        self.is_checked = bool(batch_functions)
        self._complaints = Complaints()
        self._is_transform = "transform_fn" in functions
        if self._is_transform:
            self._predict = _transform_of(functions["transform_fn"])
            self._decode: Callable[..., Any] = lambda data, content_type, context: data
            self._encode: Callable[..., Any] = lambda prediction, accept, context: prediction
        else:
            self._predict = with_context(functions, "predict_fn", default_predict)
            self._decode = with_context(functions, "input_fn", codecs.decode)
            self._encode = with_context(functions, "output_fn", default_encode)
        if self._batch is not None:
            return
        why = None
        if self._is_transform:
            why = "transform_fn keeps its input to itself"
        elif "predict_fn" in functions and functions["predict_fn"].takes_context:
            why = "predict_fn takes the context, which belongs to one request"
        if why is not None:
            self._stop(f"{why}; define batch_fn and unbatch_fn to have requests batched")

    # BatchHandler -------------------------------------------------------------------------

    def invoke_batch(
        self, requests: Sequence[Tuple[bytes, bytes]], is_wanted: Callable[[int], bool]
    ) -> Iterator[Answers]:
        failed: Answers = []
        groups: Dict[Any, List[Item]] = {}
        alone: List[int] = []
        for index, (meta, body) in enumerate(requests):
            try:
                plan = self.plan(meta)
                if plan.path != INVOCATIONS:
                    alone.append(index)
                    continue
                context = self.new_context(plan)
                value = self._read(plan, body, context)
                key, size = self._group_of(value, plan)
                item = Item(index, value, plan.content_type, plan.accept, context, size)
                groups.setdefault(index if key is None else key, []).append(item)
            except BaseException as error:  # noqa: BLE001 (as in FunctionsHandler.invoke)
                failed.append((index, self.failure(error)))
        if failed:
            yield failed
        for group in groups.values():
            yield from self._answer(group, requests, is_wanted)
        for index in alone:
            yield [(index, self.invoke(*requests[index]))]

    def _read(self, plan: RequestPlan, body: bytes, context: Optional[Context]) -> Any:
        data = body.decode() if plan.is_text else body
        return self._decode(data, plan.content_type, context)

    def _group_of(self, value: Any, plan: RequestPlan) -> Tuple[Any, int]:
        """Return what a request can share a call with, or None, and its rows."""
        if self._batch is not None:
            # Tuples, for a lone request's key is its number.
            return (plan.content_type, plan.accept) if self._is_transform else (), 1
        shape = shape_of(value)
        return (None, 1) if shape is None else ((shape.key,), shape.size)

    # Calls --------------------------------------------------------------------------------

    def _answer(
        self,
        group: List[Item],
        requests: Sequence[Tuple[bytes, bytes]],
        is_wanted: Callable[[int], bool],
    ) -> Iterator[Answers]:
        while group:
            # A call before this one may have taken its time.
            group = [item for item in group if is_wanted(item.place)]
            if len(group) < 2 or not self.is_batching:
                for item in group:
                    if is_wanted(item.place):
                        yield [(item.place, self._answer_alone(item))]
                return
            part = group if self.is_checked else group[:SAMPLE]
            group = group[len(part) :]
            try:
                predictions = self._predict_together(part)
            except BaseException as error:  # noqa: BLE001 (as in FunctionsHandler.invoke)
                self._complain(error, len(part))
                if isinstance(error, CannotSplit) and not self.is_checked:
                    self._stop(str(error))
            else:
                if self.is_checked:
                    yield [
                        (item.place, self._finish(item, predictions[number]))
                        for number, item in enumerate(part)
                    ]
                    continue
                yield from self._check(part, predictions, requests, is_wanted)
                continue
            # Decoded anew: what failed may have changed the inputs.
            for item in part:
                if is_wanted(item.place):
                    yield [(item.place, self.invoke(*requests[item.place]))]

    def _predict_together(self, items: List[Item]) -> Sequence[Any]:
        """Return the predictions of all, by one call.

        Raises:
            CannotSplit: The call went well, but did not give one prediction for each.
            BaseException: Whatever the user's code raises.
        """
        values = [item.value for item in items]
        if self._batch is None or self._unbatch is None:
            sizes = [item.size for item in items]
            return split(self._predict(stack(values), self._model, None), sizes)
        contexts = [item.context for item in items if item.context is not None]
        context = BatchContext(self._properties_of_batch, contexts) if contexts else None
        batch = self._batch(values)
        if self._is_transform:
            first = items[0]
            result = self._predict(batch, self._model, context, first.content_type, first.accept)
        else:
            result = self._predict(batch, self._model, context)
        return _checked(self._unbatch(result, len(items)), len(items))

    def _answer_alone(self, item: Item) -> Reply:
        try:
            if self._batch is not None:
                (prediction,) = self._predict_together([item])
            else:
                prediction = self._predict(item.value, self._model, item.context)
        except BaseException as error:  # noqa: BLE001 (as in FunctionsHandler.invoke)
            return self.failure(error)
        return self._finish(item, prediction)

    def _finish(self, item: Item, prediction: Any) -> Reply:
        try:
            result = self._encode(prediction, item.accept, item.context)
            return self.reply(result, item.accept, item.context)
        except BaseException as error:  # noqa: BLE001 (as in FunctionsHandler.invoke)
            return self.failure(error)

    # Checking -----------------------------------------------------------------------------

    def _check(
        self,
        items: List[Item],
        batched: Sequence[Any],
        requests: Sequence[Tuple[bytes, bytes]],
        is_wanted: Callable[[int], bool],
    ) -> Iterator[Answers]:
        """Answer each request by a call of its own, and compare."""
        compared = 0
        is_same = True
        for number, item in enumerate(items):
            if not is_wanted(item.place):
                continue
            meta, body = requests[item.place]
            try:
                value = self._read(self.plan(meta), body, item.context)
                single = self._predict(value, self._model, item.context)
            except BaseException as error:  # noqa: BLE001 (as in FunctionsHandler.invoke)
                # A call that works in company only is no proof of anything.
                yield [(item.place, self.failure(error))]
                continue
            compared += 1
            is_same = is_same and _agree(single, batched[number])
            yield [(item.place, self._finish(item, single))]
        if not is_same:
            self._stop("the predictions of a batch differ from those of its requests on their own")
        elif compared:
            self.is_checked = True

    def _stop(self, why: str) -> None:
        self.is_batching = False
        _log(f"batching is off: {why}")

    def _complain(self, error: BaseException, count: int) -> None:
        try:
            why = str(error) if isinstance(error, CannotSplit) else _describe(error)
        except Exception:  # noqa: BLE001 (the user's own __str__)
            why = type(error).__name__
        self._complaints.log(
            f"a batch of {count} requests failed, so each is called on its own: {why}"
        )


class Complaints:
    """One line in ten seconds, for a model may fail with every batch."""

    def __init__(self) -> None:
        self._next_at = 0.0
        self._suppressed = 0

    def log(self, text: str) -> None:
        """Log a line, or count it."""
        now = time.monotonic()
        if now < self._next_at:
            self._suppressed += 1
            return
        if self._suppressed:
            text += f" ({self._suppressed} more since the last such line)"
        self._next_at = now + LOG_EVERY_S
        self._suppressed = 0
        _log(text)


def _log(text: str) -> None:
    try:
        sys.stderr.write(f"clary-worker: {text}\n")
    except (OSError, ValueError):
        pass  # the disk is full, or the user closed it: batching is no reason to fail


def _describe(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _agree(one: Any, other: Any) -> bool:
    try:
        return agree(one, other)
    except Exception:  # noqa: BLE001 (a class of the user's, compared in its own way)
        return False


def _transform_of(function: UserFunction) -> Callable[..., Any]:
    call = function.call
    if function.takes_context:
        return lambda data, model, context, content_type, accept: call(
            model, data, content_type, accept, context
        )
    return lambda data, model, context, content_type, accept: call(
        model, data, content_type, accept
    )


# Batches of one ---------------------------------------------------------------------------


def with_batches_of_one(
    functions: Dict[str, UserFunction], batch_functions: Dict[str, UserFunction]
) -> Dict[str, UserFunction]:
    """Return functions for single requests whose ``predict_fn`` gets batches all the same.

    Args:
        functions: As ``find_functions`` returns them.
        batch_functions: As ``find_batch_functions`` returns them.
    """
    if not batch_functions:
        return functions
    name = "transform_fn" if "transform_fn" in functions else "predict_fn"
    function = functions.get(name, UserFunction(default_predict, False, False))
    call = function.call
    batch, unbatch = batch_functions["batch_fn"].call, batch_functions["unbatch_fn"].call
    place = 1 if name == "transform_fn" else 0  # of the data among the arguments

    def in_a_batch(arguments: Tuple[Any, ...]) -> Tuple[Any, ...]:
        return (*arguments[:place], batch([arguments[place]]), *arguments[place + 1 :])

    def plain(*arguments: Any) -> Any:
        return _checked(unbatch(call(*in_a_batch(arguments)), 1), 1)[0]

    async def asynchronous(*arguments: Any) -> Any:
        return _checked(unbatch(await call(*in_a_batch(arguments)), 1), 1)[0]

    one = function._replace(call=asynchronous if function.is_async else plain)
    return {**functions, name: one}


def _checked(predictions: Any, count: int) -> Sequence[Any]:
    """Return what ``unbatch_fn`` returned.

    Raises:
        CannotSplit: It is no list of ``count`` predictions.
    """
    if not isinstance(predictions, (list, tuple)):
        raise CannotSplit(f"unbatch_fn returned {type(predictions).__name__}, not a list")
    if len(predictions) != count:
        raise CannotSplit(
            f"unbatch_fn returned {len(predictions)} predictions for {count} requests"
        )
    return predictions
