"""The way of a request: parsed, admitted, given a replica, relayed and, if it fails, retried."""
