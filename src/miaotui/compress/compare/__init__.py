"""Models beside one another: size, speed, energy, what they say, how far apart they are, and how sure that is."""
