"""Files that are sent to workers, and checked there."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile

from pygo_plugin.errors import ChecksumError, ConfigError


class Upload:
    """A file's content, its mode and its checksum, read where the object is made."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self.content = file.read()
                self.mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        except OSError as error:
            raise ConfigError(f"dask_plugins: cannot upload {path}: {error}") from error
        self.sha256 = hashlib.sha256(self.content).digest()

    def write(self, directory: str) -> str:
        """Write it below the directory, and read it again. Returns: its path.

        Raises: ChecksumError if it is not what was sent; OSError.
        """
        folder = os.path.join(directory, "pygo-plugin", self.sha256.hex())
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, os.path.basename(self.path))
        # By rename, so that another worker in the same directory never sees half of it.
        descriptor, temporary = tempfile.mkstemp(dir=folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(self.content)
            os.chmod(temporary, self.mode & 0o755)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        with open(path, "rb") as file:
            found = hashlib.sha256(file.read()).digest()
        if found != self.sha256:
            raise ChecksumError(
                f"{path} has SHA-256 {found.hex()} after its upload instead of {self.sha256.hex()}"
            )
        return path
