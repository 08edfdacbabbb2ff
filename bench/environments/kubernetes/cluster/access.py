"""Which cluster, and whether it is one to measure on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from bench.environments.kubernetes.cluster.api import Api
from bench.errors import UserError

_PRODUCTION = {"prod", "production", "live", "prd"}


@dataclass(frozen=True, slots=True)
class Access:
    """Which kubeconfig, several as kubectl separates them, and which of its contexts.

    Without a `context` it is the current one.
    """

    kubeconfig: str
    context: str | None = None

    @classmethod
    def chosen(
        cls, kubeconfig: Path | None, context: str | None, environ: Mapping[str, str]
    ) -> Self:
        """What the user said; where that is nothing, what kubectl would take."""
        default = environ.get("KUBECONFIG") or "~/.kube/config"
        return cls(default if kubeconfig is None else str(kubeconfig), context)


def connect(access: Access) -> Api:
    """The API of the cluster; nothing is asked of it yet.

    Raises UserError for a kubeconfig that cannot be read, a context that is not in it, and
    one that looks like production and was not named.
    """
    files = access.kubeconfig
    try:
        contexts, current = config.list_kube_config_contexts(config_file=files)
        known = [str(one["name"]) for one in contexts]
        context = access.context or str(current["name"])
        if context not in known:
            raise UserError(f"no context {context!r} in {files}; known: {', '.join(known)}")
        # One more try, for a connection that was kept and has been closed meanwhile.
        client: ApiClient = config.new_client_from_config(
            config_file=files, context=context, client_configuration=Configuration(retries=1)
        )
    except config.ConfigException as error:
        told = " ".join(str(error).split())
        raise UserError(f"cannot read the kubeconfig {files}: {told}; see --kubeconfig") from None
    except OSError as error:
        raise UserError(f"cannot read the kubeconfig {files}: {error}; see --kubeconfig") from None
    server = client.configuration.host
    if access.context is None and (word := production_word(context, server)):
        raise UserError(
            f"context {context!r} ({server}) looks like production ({word!r}); "
            f"if it is meant, name it: --context {context}"
        )
    return Api(client, context, server)


def production_word(context: str, server: str) -> str | None:
    """The word in a context's name or its server's host that says production, if one does."""
    host = urlsplit(server).hostname or ""
    words = re.split(r"[^a-z]+", f"{context} {host}".lower())
    return next((word for word in words if word in _PRODUCTION), None)
