"""Duplicates of large image sets on many machines, with Ray Data."""
