"""Where load comes from in a cluster: pods of an Indexed Job, and programs that run in them."""

from bench.environments.kubernetes.load.places import bring_up
from bench.environments.kubernetes.load.site import PodSite

__all__ = ["PodSite", "bring_up"]
