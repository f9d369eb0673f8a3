"""The runtime's operation that is durable: InvokeEndpointAsync.

All others are the gateway's. What is accepted here is done by the jobs process.
"""

import uuid
from datetime import timedelta

from clary.api.operations import Call, Reply, Request, operation
from clary.errors import NotFound
from clary.resources.async_inference import DEFAULT_TTL_S, make_order
from clary.store.async_queue import NewInvocation


@operation("sagemaker-runtime", "InvokeEndpointAsync")
async def invoke_endpoint_async(call: Call, request: Request) -> Reply:
    endpoint = request["EndpointName"]
    unique = str(uuid.uuid4())
    inference_id = request.get("InferenceId", unique)
    try:
        order = make_order(
            await call.store.async_queue.config(endpoint), unique, request, call.trace
        )
        body = request.get("Body")
        await call.store.async_queue.accept(
            NewInvocation(
                endpoint=endpoint,
                inference_id=inference_id,
                accepted_at=call.backend.clock.now(),
                ttl=timedelta(seconds=request.get("RequestTTLSeconds", DEFAULT_TTL_S)),
                order=order,
                body=None if order.input_location is not None else body,
            )
        )
    except NotFound as error:
        # In the words of the gateway for InvokeEndpoint.
        raise NotFound(
            f"Endpoint {endpoint} of account {call.namespace.account} not found."
        ) from error
    reply = {"InferenceId": inference_id}
    if order.output_location is not None:
        reply["OutputLocation"] = order.output_location
    if order.failure_location is not None:
        reply["FailureLocation"] = order.failure_location
    return reply
