"""Sentences for a ``FailureReason``: AWS's own where it has them, and what really happened."""

from collections.abc import Mapping, Sequence

from clary.resources.inference_component import endpoint_of_hosts


def owner_of(endpoint_name: str, variant_name: str) -> str:
    """Return whose containers an instance has, as the sentences here name it."""
    if endpoint_of_hosts(endpoint_name) is not None:
        return f"inference component {variant_name}"
    return f"production variant {variant_name}"


def ping_failed(containers: Sequence[str], owner: str, detail: str | None) -> str:
    """Containers that did not get as far as answering a ping, each named (endpoints.md 1)."""
    sentences = [
        f"The {container} container for {owner} did not pass the ping health check."
        for container in containers
    ]
    text = " ".join([*sentences, "Please check CloudWatch logs for this endpoint."])
    return f"{text} {detail.strip()}" if detail and detail.strip() else text


def download_failed(container: str, url: str, detail: str) -> str:
    """Model data that is not there, or cannot be had (endpoints.md 1)."""
    return (
        f'Failed to download model data for container "{container}" from URL: "{url}". Please '
        "ensure that there is an object located at the URL and that the role passed to CreateModel "
        f"has permissions to download the object. ({detail})"
    )


def unusable_data(container: str, url: str, detail: str) -> str:
    """Model data that is there, and cannot be taken."""
    return f'The model data for container "{container}" from URL: "{url}" cannot be used: {detail}.'


def not_prepared(container: str, owner: str, detail: str) -> str:
    """A container whose environment or settings are no good."""
    return f"The {container} container for {owner} could not be prepared: {detail.rstrip('.')}."


def no_code(environment: Mapping[str, str]) -> str:
    """A model that names neither data nor code, as those of the Hugging Face images may."""
    hub_model = environment.get("HF_MODEL_ID", "")
    hub = f" {hub_model} is not fetched from its hub." if hub_model else ""
    return (
        "its model has neither ModelDataUrl nor SAGEMAKER_SUBMIT_DIRECTORY, so there is no code "
        f"to run.{hub} Pack code/inference.py and the model's files into a model.tar.gz, and name "
        "it as ModelDataUrl"
    )
