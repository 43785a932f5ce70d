"""Duplicates among more images than one machine can look at, on Ray Data."""

from __future__ import annotations
