"""The networks: VGG with and without batch normalisation and residual connections, and its fused passes."""
