"""Learned policies of two timescales: a double deep Q-network for caches, an actor and a critic for slots.

Needs PyTorch (extra `learn`); nothing else in the package imports it.
"""
