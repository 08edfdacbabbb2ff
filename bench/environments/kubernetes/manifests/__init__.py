"""What is generated under `k8s/`: engines and overlays, from the topology alone.

Pure functions from the topology to objects, and objects to text; only `folder` touches
files. Names, labels and ports are the same in the files of `k8s/` that people write.
"""

from bench.environments.kubernetes.manifests.engine_objects import engine_objects
from bench.environments.kubernetes.manifests.files import (
    K8S,
    drift,
    engine_spec,
    manifest_files,
    suite_version,
    write,
)
from bench.environments.kubernetes.manifests.names import deployment_name, namespace, object_name
from bench.environments.kubernetes.manifests.overlay import overlay_path

__all__ = [
    "K8S",
    "deployment_name",
    "drift",
    "engine_objects",
    "engine_spec",
    "manifest_files",
    "namespace",
    "object_name",
    "overlay_path",
    "suite_version",
    "write",
]
