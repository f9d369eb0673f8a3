"""Directories that are dear to make, made once and shared: unpacked artifacts, environments.

An entry is made in a directory of another name and renamed when it is whole, so that a crash leaves
nothing that looks like one. Requests for an entry that is being made wait for it; when the last of
them gives up, the making stops too. Entries that no instance holds are removed when they are old,
or when all of them together are too large, least recently used first.
"""

import asyncio
import json
import os
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

MARKER = ".complete"
_PARTIAL = ".partial-"


@dataclass(slots=True)
class _Making:
    task: asyncio.Task[None]
    waiters: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    used_at: float
    bytes: int


@dataclass(slots=True)
class Cache:
    """A directory of entries, each named by the digest of what it was made from.

    One process at a time may use it (that holds the lock on the data directory).
    """

    directory: Path
    _making: dict[str, _Making] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """All that are being made, those too that nobody waits for any more."""
    _held: dict[str, set[str]] = field(default_factory=dict)

    def open(self) -> None:
        """Make the directory, and remove what another life left half-made."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if path.name.startswith(_PARTIAL) or not (path / MARKER).is_file():
                remove_tree(path)

    async def close(self) -> None:
        """Stop everything that is being made."""
        tasks = list(self._tasks)
        for task in tasks:
            if not task.cancelling():  # a second time would interrupt its cleaning up
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def get(self, key: str, make: Callable[[Path], Awaitable[None]], *, holder: str) -> Path:
        """Return the directory of an entry; make it first where it is missing.

        Args:
            key: Digest of what the entry is made from; its directory's name.
            make: Fills the empty directory that it is given. May run for another request of the
                same key. When it fails, the directory is removed.
            holder: Whoever uses the entry, until ``release``. Held entries are not collected.

        Raises:
            Exception: What ``make`` raised.

        Cancelling is safe; the making ends with its last waiter.
        """
        self.hold(key, holder)
        path = self.directory / key
        marker = path / MARKER
        if marker.is_file():
            os.utime(marker)
            return path
        making = self._making.get(key)
        if making is None:
            task = asyncio.create_task(self._make(key, make))
            self._tasks.add(task)
            task.add_done_callback(self._made)
            making = self._making[key] = _Making(task)
        making.waiters += 1
        try:
            await asyncio.shield(making.task)
        finally:
            making.waiters -= 1
            if making.waiters == 0 and not making.task.done():
                making.task.cancel()
                # The next request must not join what is being stopped.
                if self._making.get(key) is making:
                    del self._making[key]
        return path

    def hold(self, key: str, holder: str) -> None:
        """Keep an entry for a holder, as for an instance that was adopted."""
        self._held.setdefault(key, set()).add(holder)

    def hold_path(self, path: Path, holder: str) -> None:
        """Keep the entry that a path lies in, if it lies in the cache at all."""
        if path.is_relative_to(self.directory):
            self.hold(path.relative_to(self.directory).parts[0], holder)

    def release(self, holder: str) -> None:
        """Give up all entries of a holder."""
        for key in [key for key, holders in self._held.items() if holder in holders]:
            self._held[key].discard(holder)
            if not self._held[key]:
                del self._held[key]

    def release_all(self, prefix: str) -> None:
        """Give up all entries of the holders whose names begin so."""
        for holder in {h for holders in self._held.values() for h in holders}:
            if holder.startswith(prefix):
                self.release(holder)

    async def collect(self, *, max_age_s: float, max_bytes: int) -> list[str]:
        """Remove entries that nobody holds and that are old, or too many; return their keys."""
        entries = await asyncio.to_thread(self._entries)
        removed = choose_to_remove(
            [(entry.key, entry.used_at, entry.bytes) for entry in entries],
            held=set(self._held) | set(self._making),
            now=time.time(),
            max_age_s=max_age_s,
            max_bytes=max_bytes,
        )
        doomed = []
        for key in removed:
            # Renamed at once, without a pause for another task: from here on it is not found.
            grave = self.directory / f"{_PARTIAL}{key[:16]}-{secrets.token_hex(4)}"
            (self.directory / key).rename(grave)
            doomed.append(grave)
        for grave in doomed:
            await asyncio.to_thread(remove_tree, grave)
        return removed

    async def _make(self, key: str, make: Callable[[Path], Awaitable[None]]) -> None:
        partial = self.directory / f"{_PARTIAL}{key[:16]}-{secrets.token_hex(4)}"
        try:
            partial.mkdir()
            await make(partial)
            facts = {"bytes": await asyncio.to_thread(_size_of, partial)}
            (partial / MARKER).write_text(json.dumps(facts))
            partial.rename(self.directory / key)
        except BaseException:
            await asyncio.to_thread(remove_tree, partial)
            raise
        finally:
            current = self._making.get(key)
            if current is not None and current.task is asyncio.current_task():
                del self._making[key]

    def _made(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at here, for every waiter may have given up on it.
            task.exception()

    def _entries(self) -> list[_Entry]:
        entries = []
        for path in self.directory.iterdir():
            marker = path / MARKER
            try:
                facts = json.loads(marker.read_text())
                entries.append(_Entry(path.name, marker.stat().st_mtime, int(facts["bytes"])))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # half-made, or just removed
        return entries


def choose_to_remove(
    entries: list[tuple[str, float, int]],
    *,
    held: set[str],
    now: float,
    max_age_s: float,
    max_bytes: int,
) -> list[str]:
    """Return the keys of entries to remove: unheld ones that are old, or the oldest of too many.

    Args:
        entries: Key, time of last use (seconds of the epoch), bytes.
        held: Keys that must stay.
        now: Seconds of the epoch.
        max_age_s: Unused for longer than this goes.
        max_bytes: Most bytes of all entries; held ones count, but stay.
    """
    total = sum(size for _, _, size in entries)
    removed = []
    for key, used_at, size in sorted(entries, key=lambda entry: entry[1]):
        if key not in held and (now - used_at > max_age_s or total > max_bytes):
            removed.append(key)
            total -= size
    return removed


def remove_tree(path: Path) -> None:
    """Remove a directory (or a file, or a link) with all that is in it, as far as possible."""

    def make_writable(function: Callable[[str], object], name: str, _: object) -> None:
        try:
            os.chmod(os.path.dirname(name), 0o700)
            function(name)
        except OSError:
            pass

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, onerror=make_writable)


def _size_of(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
