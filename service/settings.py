"""Settings from the environment, read once in each program's main."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The characters RFC 6750 allows in a bearer token; all of them may stand in a cookie, too.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class SettingsError(ValueError):
    """The environment asks for what cannot or must not be done. The message names the variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator decides."""

    home: Path
    database_url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8787
    token: str | None = field(default=None, repr=False)
    """Every call must carry it when set."""
    allow_scripts: tuple[Path, ...] | None = None
    """Folders whose scripts may run. None: any folder on a loopback server, none on another."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"TRIMTAB_PORT must be a port number from 0 to 65535, not {self.port}")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise SettingsError(
                "TRIMTAB_TOKEN must consist of letters, digits and - . _ ~ + / (with = at the end): "
                'make one with `python -c "import secrets; print(secrets.token_urlsafe())"`'
            )
        if self.token is None and not self.loopback:
            raise SettingsError(
                f"TRIMTAB_HOST={self.host} can be reached from other machines, and TRIMTAB_TOKEN is not "
                "set: anybody could start training here. Set TRIMTAB_TOKEN, or keep TRIMTAB_HOST=127.0.0.1"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the ``TRIMTAB_*`` variables; a variable that is empty counts as unset.

        Raises:
            SettingsError: a value cannot be used, or the server would be open to everybody.
        """

        def get(name: str) -> str | None:
            return environ.get(f"TRIMTAB_{name}", "").strip() or None

        home = Path(get("HOME") or ".trimtab").absolute()
        port = get("PORT") or "8787"
        if not port.isascii() or not port.isdigit():
            raise SettingsError(f"TRIMTAB_PORT must be a port number from 0 to 65535, not {port!r}")
        folders = get("ALLOW_SCRIPTS")
        return cls(
            home=home,
            database_url=get("DATABASE_URL") or f"sqlite:///{home / 'trimtab.db'}",
            host=get("HOST") or "127.0.0.1",
            port=int(port),
            token=get("TOKEN"),
            allow_scripts=None
            if folders is None
            else tuple(Path(folder).absolute() for folder in folders.split(os.pathsep) if folder),
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without a port) is this machine's own loopback."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
