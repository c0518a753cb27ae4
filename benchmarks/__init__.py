"""Measurements that stand in the docs; none of them is a test."""
