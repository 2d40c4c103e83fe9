"""Instances: what a file holds, frozen and validated."""
