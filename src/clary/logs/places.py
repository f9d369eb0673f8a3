"""Where the files of log groups lie: ``<root>/<area>/...``, a stream's name being its path.

=========================  ===============================================  =====================
directory                  group                                            stream
=========================  ===============================================  =====================
``endpoints/<name>``       ``/aws/sagemaker/Endpoints/<name>``              ``<variant>/<instance>``
``components/<name>``      ``/aws/sagemaker/InferenceComponents/<name>``    ``<variant>/<instance>``
``transform-jobs``         ``/aws/sagemaker/TransformJobs``                 ``<job>/<instance>``
=========================  ===============================================  =====================

A stream may have one part more: the container. The directories are made by whoever runs the
instances; that is all it takes for their logs to be read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clary.resources.log_group import COMPONENT_GROUPS, ENDPOINT_GROUPS, TRANSFORM_GROUP

SUFFIX = ".log"


@dataclass(frozen=True, slots=True)
class LogFilePath:
    """The file of a stream."""

    group: str
    stream: str
    path: Path


class LogPlaces:
    """The directories of log groups below a root."""

    def __init__(self, root: Path) -> None:
        self._by_prefix = {
            ENDPOINT_GROUPS: root / "endpoints",
            COMPONENT_GROUPS: root / "components",
        }
        self._whole = {TRANSFORM_GROUP: root / "transform-jobs"}

    def directory(self, group: str) -> Path | None:
        """Return where the files of a group lie; None: it has none."""
        if group in self._whole:
            return self._whole[group]
        for prefix, directory in self._by_prefix.items():
            name = group.removeprefix(prefix)
            if group.startswith(prefix) and _is_plain(name):
                return directory / name
        return None

    def path(self, group: str, stream: str) -> Path | None:
        """Return the file that a stream would have; None: none."""
        directory = self.directory(group)
        parts = stream.split("/")
        if directory is None or not all(_is_plain(part) for part in parts):
            return None
        return directory.joinpath(*parts[:-1], parts[-1] + SUFFIX)

    def files(self, group: str) -> list[LogFilePath]:
        """Return the files of a group, in order of their streams' names."""
        directory = self.directory(group)
        if directory is None or not directory.is_dir():
            return []
        found = [
            LogFilePath(group, str(path.relative_to(directory))[: -len(SUFFIX)], path)
            for path in directory.rglob(f"*{SUFFIX}")
        ]
        return sorted(found, key=lambda file: file.stream)

    def groups(self) -> Iterator[str]:
        """Give the groups that have a directory."""
        for group, directory in self._whole.items():
            if directory.is_dir():
                yield group
        for prefix, directory in self._by_prefix.items():
            if directory.is_dir():
                yield from (prefix + entry.name for entry in directory.iterdir() if entry.is_dir())


def _is_plain(name: str) -> bool:
    """Whether a part of a name is safe as a part of a path."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
