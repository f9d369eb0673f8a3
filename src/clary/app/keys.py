"""The access keys that a running server knows.

Those that ``clary keys`` keeps in the data directory, and one with which the models' own AWS calls
are signed. That one lies in the run directory, for workers outlive control: a restarted control has
to know the key that it once gave them.
"""

from pathlib import Path

from clary.signing.keys import AccessKey, KeyFile

MODEL_PRINCIPAL = "clary-model"
"""Who the handlers' own AWS calls are made by."""


class ServerKeys:
    """Reads both files.

    Args:
        data_dir: ``D``, where ``keys.json`` is.
        run_dir: ``R``, where ``model-key.json`` is.
    """

    def __init__(self, data_dir: Path, run_dir: Path) -> None:
        self._own = KeyFile(data_dir / "keys.json")
        self._models = KeyFile(run_dir / "model-key.json")

    def load(self) -> dict[str, AccessKey]:
        """Return all keys by id, as they are now.

        Raises:
            ConfigurationError: A file is corrupt, or cannot be read.
        """
        return {**self._models.load(), **self._own.load()}

    def for_models(self) -> AccessKey:
        """Return the models' key; made when there is none yet.

        Raises:
            ConfigurationError: The file is corrupt, or cannot be written.
        """
        return next(iter(self._models.load().values()), None) or self._models.create(
            MODEL_PRINCIPAL
        )
