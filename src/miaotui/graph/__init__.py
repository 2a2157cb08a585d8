"""One forward pass as a graph: description, fusion, memory plan, compilation to a native program."""
