"""A smaller model learns to say what a larger one says: heals what pruning or quantizing took (needs torch)."""
