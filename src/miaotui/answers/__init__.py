"""Answers that were computed or written before: kept, found again, and never served where they could be wrong."""
