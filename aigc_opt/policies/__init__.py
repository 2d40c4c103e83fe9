"""Policies: the ones that papers compare with, and any that somebody brings."""
