"""How well a model solves tasks that the user brings, and whether two models differ by more than chance."""
