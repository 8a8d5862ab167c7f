"""`python -m handler weights lock`: records the hashes of the official files. Only the lock file changes."""

from collections.abc import Collection, Mapping
from pathlib import Path

from model_cache.errors import WeightsMissing
from model_cache.settings import ModelSettings
from model_cache.store.files import sha256_of
from model_cache.store.manifest import ALL_FILES, official_file
from ops.weights.fetch import detector_manifest
from ops.weights.lock import LOCK_FILE, Locked, locked_now, read_lock, write_lock
from ops.weights.settings import WeightSettings


def record(
    models: ModelSettings, settings: WeightSettings, *, accept: Collection[str] = ()
) -> tuple[Path, Mapping[str, Locked], list[str]]:
    """Adds files that were not recorded, and replaces those of `accept`.

    Returns:
        The lock file, everything in it, and the keys of files that differ from it and were not accepted.

    Raises:
        WeightsMissing: a file to accept is not there.
        WeightsInvalid: the lock file is broken.
    """
    store = models.model_store
    path = settings.lock or store / LOCK_FILE
    lock = read_lock(path)
    there = {file: official_file(store, file) for file in ALL_FILES}
    for file in detector_manifest(models.detector, settings, lock.revisions):
        there[file] = store / models.detector / file.name
    files = {file.key: (file, place) for file, place in there.items() if place and place.is_file()}
    absent = set(accept) - files.keys()
    if absent:
        raise WeightsMissing(f"not there, so it cannot be accepted: {', '.join(sorted(absent))}")
    changed = []
    for key, (file, place) in files.items():
        sha256 = sha256_of(place)
        if lock.differs(key, sha256) and key not in accept:
            changed.append(key)
        elif key not in lock.files or lock.differs(key, sha256):
            lock = lock.with_file(key, locked_now(file.name, sha256, place.stat().st_size))
    write_lock(path, lock)
    return path, lock.files, changed
