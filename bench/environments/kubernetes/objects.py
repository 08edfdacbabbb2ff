"""Kubernetes objects as the API has them."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
"""An object, or a part of one, as JSON values."""
