"""`clary deploy`: a directory becomes an endpoint.

pack → upload → CreateModel → CreateEndpointConfig → CreateEndpoint or UpdateEndpoint → wait
"""

import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clary.cli.api import Api, Refused
from clary.cli.deployment import Deployment, check_entry_point, resource_name
from clary.cli.endpoints import (
    TAG,
    UPDATABLE,
    DeploymentFailed,
    delete_endpoint,
    delete_made_by_deploy,
    find_endpoint,
    log_tail,
    settle,
    wait_in_service,
)
from clary.cli.failure import CommandFailed
from clary.cli.output import Steps, size_text, stderr
from clary.cli.own_bucket import PREFIX, own_bucket
from clary.cli.packing import Archive, existing_archive, layout, pack, total_size

VARIANT = "AllTraffic"
LOG_LINES = 30

# CreateModel wants a role. Nothing is assumed here, and on AWS `deploy` is not what one uses.
ROLE_NAME = "clary-deploy"


def deploy(api: Api, wanted: Deployment, steps: Steps, *, wait: bool = True) -> None:
    """Make the endpoint, or update the one of that name: no call is lost meanwhile.

    Raises:
        DeploymentFailed: The server could not bring it into service.
        CommandFailed: It did not come so far.
    """
    with tempfile.TemporaryDirectory(prefix="clary-deploy-") as scratch:
        archive = _archive(wanted, Path(scratch), steps)
        url = _upload(api, archive, steps)
    name = resource_name(wanted.name, archive.digest, datetime.now(UTC))
    steps.begin("creating")
    _create_model_and_config(api, wanted, name, url)
    if find_endpoint(api, wanted.name) is None:
        _create_endpoint(api, wanted.name, name)
    elif settle(api, wanted.name) in UPDATABLE:
        update_endpoint(api, wanted.name, name, steps, wait=wait)
        return
    else:
        replace_endpoint(api, wanted.name, name, steps)
    if wait:
        wait_in_service(api, wanted.name, steps)


def deploy_and_report(api: Api, wanted: Deployment, *, wait: bool = True) -> None:
    """Deploy with the progress display; say how to call it, or why it failed.

    Raises:
        CommandFailed: It failed. The reason and the end of the model's log have been printed.
    """
    console = stderr()
    try:
        with Steps(console) as steps:
            deploy(api, wanted, steps, wait=wait)
    except DeploymentFailed as error:
        log = log_tail(api, wanted.name, LOG_LINES).rstrip()
        # The reason ends with some lines of the same log; here there is room for more of them.
        reason = error.message.partition("Last lines of the log:")[0] if log else error.message
        console.print(f"\n{reason.rstrip()}", style="red", markup=False)
        if log:
            console.print(f"\nlast lines of its log (clary logs {wanted.name}):", style="bold")
            console.print(log, markup=False)
        if error.still_serves:
            console.print(f"\n{wanted.name} serves as before.", style="bold", markup=False)
        raise CommandFailed from error
    if wait:
        console.print(f"\n{wanted.name} is in service:", style="bold")
        sys.stdout.write(f"clary invoke {wanted.name} -d '…'\n")
    else:
        sys.stdout.write(f"clary describe {wanted.name}\n")


def update_endpoint(api: Api, endpoint: str, config: str, steps: Steps, *, wait: bool) -> None:
    """Have an endpoint that serves go over to another configuration; the old one serves till then.

    What ``deploy`` made before goes once the new one serves, or at once where nobody waits for
    that: the endpoint needs neither any more. What it made now goes when it does not come up.

    Raises:
        DeploymentFailed: The server went back to what it had.
    """
    steps.begin("updating")
    api.call("sagemaker", "update_endpoint", EndpointName=endpoint, EndpointConfigName=config)
    if wait:
        wait_in_service(api, endpoint, steps)
        description = find_endpoint(api, endpoint) or {}
        if description.get("EndpointConfigName") != config:
            api.call("sagemaker", "delete_endpoint_config", EndpointConfigName=config)
            api.call("sagemaker", "delete_model", ModelName=config)
            raise DeploymentFailed(description.get("FailureReason") or "no reason was given", True)
    delete_made_by_deploy(api, endpoint, keep=config)


def replace_endpoint(api: Api, endpoint: str, config: str, steps: Steps) -> None:
    """Put an endpoint of the same name in the place of one that failed."""
    steps.begin("replacing")
    delete_endpoint(api, endpoint)
    delete_made_by_deploy(api, endpoint, keep=config)
    steps.begin("creating")
    _create_endpoint(api, endpoint, config)


def _archive(wanted: Deployment, scratch: Path, steps: Steps) -> Archive:
    steps.begin("packing")
    if not wanted.source.is_dir():
        archive = existing_archive(wanted.source)
        steps.detail(f"{wanted.source.name}, {size_text(archive.size)}")
        return archive
    members = layout(wanted.source, own_server=wanted.own_server)
    check_entry_point(wanted, {member.name for member in members})
    _check_space(scratch, total_size(members))
    archive = pack(members, scratch / "model.tar.gz")
    steps.detail(f"{_files_text(len(members))}, {size_text(archive.size)}")
    return archive


def _files_text(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _check_space(scratch: Path, needed: int) -> None:
    free = shutil.disk_usage(scratch).free
    if needed > free:
        raise CommandFailed(
            f"packing needs up to {size_text(needed)} in {scratch.parent}, which has "
            f"{size_text(free)} free; name another directory in TMPDIR"
        )


def _upload(api: Api, archive: Archive, steps: Steps) -> str:
    """Put the archive into the deployments' bucket, unless it is there, and return its URL."""
    steps.begin("uploading")
    bucket = own_bucket(api)
    key = f"{archive.digest}/model.tar.gz"
    if _has_object(api, bucket, key, archive.size):
        steps.detail("unchanged")
    else:
        sent = _Percentage(archive.size, steps)
        api.upload(archive.file, bucket, key, sent.add)
        steps.detail(f"s3://{bucket}/{archive.digest[:8]}…")
    return f"s3://{bucket}/{key}"


def _has_object(api: Api, bucket: str, key: str, size: int) -> bool:
    try:
        return bool(api.call("s3", "head_object", Bucket=bucket, Key=key)["ContentLength"] == size)
    except Refused as error:
        if error.not_found:
            return False
        raise


class _Percentage:
    """Shows how much of an upload is done. Called on boto3's transfer threads."""

    def __init__(self, size: int, steps: Steps) -> None:
        self._size = size
        self._steps = steps
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._size:
            self._steps.detail(f"{100 * self._done // self._size} % of {size_text(self._size)}")


def _create_model_and_config(api: Api, wanted: Deployment, name: str, url: str) -> None:
    account = url.removeprefix(f"s3://{PREFIX}").partition("/")[0]
    tags = [{"Key": TAG, "Value": wanted.name}]
    container: dict[str, Any] = {
        "Image": wanted.image_uri,
        "ModelDataUrl": url,
    }
    if wanted.container_environment:
        container["Environment"] = wanted.container_environment
    api.call(
        "sagemaker",
        "create_model",
        ModelName=name,
        PrimaryContainer=container,
        ExecutionRoleArn=f"arn:aws:iam::{account}:role/{ROLE_NAME}",
        Tags=tags,
    )
    variant = {"VariantName": VARIANT, "ModelName": name, **wanted.capacity}
    try:
        api.call(
            "sagemaker",
            "create_endpoint_config",
            EndpointConfigName=name,
            ProductionVariants=[variant],
            Tags=tags,
        )
    except Refused:
        api.call("sagemaker", "delete_model", ModelName=name)
        raise


def _create_endpoint(api: Api, endpoint: str, config: str) -> None:
    api.call(
        "sagemaker",
        "create_endpoint",
        EndpointName=endpoint,
        EndpointConfigName=config,
        Tags=[{"Key": TAG, "Value": endpoint}],
    )
