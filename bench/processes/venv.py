"""A virtual environment for one program: where it is, and whether it is whole and current."""

from __future__ import annotations

import hashlib
import platform
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment in `folder` that holds exactly what `requirements` pins."""

    folder: Path
    requirements: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def fingerprint(self) -> str:
        """What a complete installation is recognised by: requirements and interpreter."""
        digest = hashlib.sha256(self.requirements.read_bytes())
        digest.update(platform.python_version().encode())
        return digest.hexdigest()[:16]

    def is_complete(self) -> bool:
        try:
            return self._stamp.read_text(encoding="utf-8") == self.fingerprint
        except FileNotFoundError:
            return False

    def mark_complete(self) -> None:
        self._stamp.write_text(self.fingerprint, encoding="utf-8")

    def version(self, package: str) -> str:
        """The pinned version of a package."""
        pin = rf"^{re.escape(package)}==(\S+)$"
        found = re.search(pin, self.requirements.read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, f"{package} is not pinned in {self.requirements}"
        return found[1]

    @property
    def _stamp(self) -> Path:
        return self.folder / ".complete"
