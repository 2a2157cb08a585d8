"""Smaller and faster models, each method in a file of its own, with its loss measured."""
