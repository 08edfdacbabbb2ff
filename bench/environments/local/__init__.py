"""Environment `local`: vLLM's CPU build and the balancers as processes of this machine."""

from bench.environments.local.environment import LocalEnvironment
from bench.environments.local.kept import stop_kept

__all__ = ["LocalEnvironment", "stop_kept"]
