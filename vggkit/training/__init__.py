"""How a network is trained: the step, a whole run, what is logged of its gradients, many runs."""
