"""Which cluster to use; one that looks like production has to be named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from bench.environments.kubernetes.api import Api
from bench.environments.kubernetes.objects import one_line
from bench.errors import UserError
from bench.progress import Progress

_PRODUCTION = {"prod", "production", "live", "prd"}


@dataclass(frozen=True, slots=True)
class Access:
    """Which kubeconfig, and which of its contexts; None is its current one.

    `kubeconfig` may name several files, separated as in $KUBECONFIG.
    """

    kubeconfig: str
    context: str | None = None

    @classmethod
    def chosen(
        cls, kubeconfig: Path | None, context: str | None, environ: Mapping[str, str]
    ) -> Self:
        """What the user gave; without a kubeconfig, the one that kubectl would use."""
        default = environ.get("KUBECONFIG") or "~/.kube/config"
        return cls(default if kubeconfig is None else str(kubeconfig), context)


def connect_noted(access: Access, progress: Progress) -> Api:
    """Like `connect`; notes which cluster it is, which is asked for its version."""
    api = connect(access)
    progress.note(f"cluster {api.context} ({api.server}), Kubernetes {api.version()}")
    return api


def connect(access: Access) -> Api:
    """The API of the cluster. Sends no request yet.

    Raises UserError if the kubeconfig cannot be read or has no such context, and if the cluster
    looks like production and its context was not given by name.
    """
    files = access.kubeconfig
    try:
        contexts, current = config.list_kube_config_contexts(config_file=files)
        known = [str(one["name"]) for one in contexts]
        context = access.context or str(current["name"])
        if context not in known:
            raise UserError(f"no context {context!r} in {files}; known: {', '.join(known)}")
        # One retry, for a kept connection that was closed meanwhile.
        client: ApiClient = config.new_client_from_config(
            config_file=files, context=context, client_configuration=Configuration(retries=1)
        )
    except (config.ConfigException, OSError) as error:
        raise UserError(
            f"cannot read the kubeconfig {files}: {one_line(error)}; see --kubeconfig"
        ) from None
    server = client.configuration.host
    if access.context is None and (word := production_word(context, server)):
        raise UserError(
            f"context {context!r} ({server}) looks like production ({word!r}); "
            f"if you mean it, name it: --context {context}"
        )
    return Api(client, context, server)


def production_word(context: str, server: str) -> str | None:
    """The word for production in a context's name or its server's host; None if there is none."""
    host = urlsplit(server).hostname or ""
    words = re.split(r"[^a-z]+", f"{context} {host}".lower())
    return next((word for word in words if word in _PRODUCTION), None)
