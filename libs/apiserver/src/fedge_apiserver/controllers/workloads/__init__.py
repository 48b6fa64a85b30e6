"""Control loops that keep pods of a template, or run them to their end.

https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from fedge_apiserver.controllers.workloads._cron_jobs import CronJobs
from fedge_apiserver.controllers.workloads._daemon_sets import DaemonSets
from fedge_apiserver.controllers.workloads._deployments import Deployments
from fedge_apiserver.controllers.workloads._jobs import Jobs
from fedge_apiserver.controllers.workloads._replica_sets import ReplicaSets
from fedge_apiserver.controllers.workloads._stateful_sets import StatefulSets

__all__ = ["CronJobs", "DaemonSets", "Deployments", "Jobs", "ReplicaSets", "StatefulSets"]
