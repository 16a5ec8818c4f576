"""Very deep plain networks, batch normalisation and residual connections: models, training, gradient flow."""
