"""Environment `k8s`: engines, balancers and load in a Kubernetes cluster."""
