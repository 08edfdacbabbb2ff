"""Recorded traffic: read from a user's file, fitted to an engine, replayed in its own shape."""
