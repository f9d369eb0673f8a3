"""Which objects a job reads, and what it calls their output."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from clary.errors import AccessDenied, NotFound
from clary.jobs.transform.cutting import BadInput
from clary.objects.client import ObjectInfo, ObjectStorage
from clary.resources.transform_job import S3Place, TransformFile, TransformJob

MAX_MANIFEST_BYTES = 100 * 1024 * 1024


async def find_files(storage: ObjectStorage, job: TransformJob) -> list[TransformFile]:
    """Return the files of a job. Empty objects and folder markers are passed over.

    Raises:
        BadInput: There is none, or the manifest is no good.
        TransientError: The storage is away.
    """
    source = job.source
    try:
        if job.source_type == "S3Prefix":
            found = [info async for info in storage.list(source.bucket, source.key)]
            objects = [(source.bucket, info) for info in found]
            names = names_below(source.key, [info.key for info in found])
        else:
            objects, names = await _from_manifest(storage, job)
    except (NotFound, AccessDenied) as error:
        raise BadInput(f"The input cannot be read: {error.message}") from error
    destination = job.destination
    folder = destination.key.rstrip("/")
    files = [
        TransformFile(
            position=position,
            bucket=bucket,
            key=info.key,
            etag=info.etag,
            size=info.size,
            output_key=f"{folder}/{name}.out" if folder else f"{name}.out",
        )
        for position, ((bucket, info), name) in enumerate(zip(objects, names, strict=True))
        if info.size and not info.key.endswith("/")
    ]
    if not files:
        raise BadInput(f"S3 key: {source.uri} matched no files on s3")
    return files


def names_below(prefix: str, keys: Sequence[str]) -> list[str]:
    """Return what keys are called relative to a prefix that need not be a folder.

    What lies in the folder of the prefix's name is relative to that, all else to the folder that
    the prefix itself lies in. Where two would then be called the same, all are relative to the
    latter.
    """
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    above = prefix[: prefix.rfind("/") + 1]
    names = [
        key[len(folder) :] if key.startswith(folder) and key != folder else key[len(above) :]
        for key in keys
    ]
    if len(set(names)) < len(names):
        names = [key[len(above) :] for key in keys]
    return names


def parse_manifest(content: bytes) -> list[tuple[S3Place, str]]:
    """Return places and names of a ManifestFile: ``[{"prefix": "s3://..."}, "a.csv", ...]``.

    Raises:
        BadInput: It is none.
    """
    try:
        entries: Any = json.loads(content)
    except ValueError as error:
        raise BadInput(f"The manifest is no JSON: {error}") from error
    head = entries[0] if isinstance(entries, list) and entries else None
    prefix = head.get("prefix") if isinstance(head, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith("s3://"):
        raise BadInput('The manifest must be a JSON array that begins with {"prefix": "s3://..."}.')
    names = entries[1:]
    if not all(isinstance(name, str) and name for name in names):
        raise BadInput("The manifest's entries after the prefix must be keys, as JSON strings.")
    return [(S3Place.parse(prefix + name), name.lstrip("/")) for name in names]


def parse_augmented_manifest(content: bytes) -> list[tuple[S3Place, str]]:
    """Return places and names of an AugmentedManifestFile: lines with a ``source-ref`` each.

    Raises:
        BadInput: It is none.
    """
    places = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry: Any = json.loads(line)
        except ValueError as error:
            raise BadInput(
                f"Line {number} of the augmented manifest is no JSON: {error}"
            ) from error
        uri = entry.get("source-ref") if isinstance(entry, dict) else None
        if not isinstance(uri, str) or not uri.startswith("s3://"):
            raise BadInput(
                f'Line {number} of the augmented manifest has no "source-ref" with an s3:// URI.'
            )
        places.append(S3Place.parse(uri))
    return list(zip(places, _names_apart(places), strict=True))


def _names_apart(places: Sequence[S3Place]) -> list[str]:
    """Return names relative to the folder that all share."""
    shared = _shared_folder(place.uri for place in places)
    return [place.uri[len(shared) :] for place in places]


def _shared_folder(uris: Iterable[str]) -> str:
    shared: list[str] | None = None
    for uri in uris:
        folders = uri.split("/")[:-1]
        if shared is None:
            shared = folders
        while shared != folders[: len(shared)]:
            shared = shared[:-1]
    return "/".join([*(shared or ["s3:", ""]), ""])


async def _from_manifest(
    storage: ObjectStorage, job: TransformJob
) -> tuple[list[tuple[str, ObjectInfo]], list[str]]:
    source = job.source
    if (await storage.head(source.bucket, source.key)).size > MAX_MANIFEST_BYTES:
        raise BadInput(f"The manifest {source.uri} is larger than {MAX_MANIFEST_BYTES} bytes.")
    parse = parse_manifest if job.source_type == "ManifestFile" else parse_augmented_manifest
    entries = parse(await storage.get(source.bucket, source.key))
    names = [name for _, name in entries]
    if len(set(names)) < len(names):
        raise BadInput("The manifest names an object twice.")
    return (
        [(place.bucket, await storage.head(place.bucket, place.key)) for place, _ in entries],
        names,
    )
