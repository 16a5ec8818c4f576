"""Very deep plain networks, batch normalisation and residual connections: models, training, gradient flow."""

import vggkit.compat  # noqa: F401  (makes `import torchvision` work, before any module needs it)
