"""The generated part of `k8s/`: engines and overlays, computed from the topology.

Names, labels and ports are the same in the files of `k8s/` that are written by hand.
"""
