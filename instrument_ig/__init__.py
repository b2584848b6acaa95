"""Accelerated attribution for instrument classifiers."""
