"""Models with parts left out: fewer layers, narrower layers, or (for bytes alone) weights that are zero.

depth: whole layers. width: neurons of the MLPs and groups of heads. Both give smaller dense models of standard shape,
with less to read and compute in proportion. wanda, two_four: zeros in matrices that keep their shape; files compress
better, and no CPU engine gets faster by them.
"""
