"""From floats to a file's block types, and methods that choose the codes."""
