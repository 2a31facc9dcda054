"""What each sensor adds, what its absence costs, and what helps rare classes: a study on simulated land."""
