"""The earth mover's distance between heatmaps, certified: two solvers and what proves them."""
