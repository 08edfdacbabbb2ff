"""Why a replica does not come up, from what the cluster tells of it. Pure functions."""

from bench.environments.kubernetes.diagnosis.logs import log_reason, telling_line
from bench.environments.kubernetes.diagnosis.pod import diagnose
from bench.environments.kubernetes.diagnosis.reason import Reason
from bench.environments.kubernetes.diagnosis.workload import diagnose_workload

__all__ = ["Reason", "diagnose", "diagnose_workload", "log_reason", "telling_line"]
