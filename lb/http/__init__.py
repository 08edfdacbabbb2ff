"""HTTP/1.1 with clients and with replicas; knows nothing of models and policies."""
