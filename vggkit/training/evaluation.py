"""How well a network does on images that it is not trained on."""

import torch
import torch.nn.functional as F

from vggkit.data import Images, evaluation_batches
from vggkit.networks.vgg import VGG
from vggkit.training.compute import Compute

EVALUATION_BATCH_SIZE = 500


@torch.inference_mode()
def evaluate(model: VGG, images: Images, compute: Compute) -> tuple[float, float]:
    """Mean cross-entropy and accuracy, a fraction, on `images`, in the precision of `compute`."""
    model.eval()
    loss_sum = torch.zeros((), device=compute.device, dtype=torch.float64)
    correct = torch.zeros((), device=compute.device, dtype=torch.int64)
    for batch, labels in evaluation_batches(images, EVALUATION_BATCH_SIZE):
        with compute.autocast():
            logits = model(batch).float()
        loss_sum += F.cross_entropy(logits, labels, reduction="sum")
        correct += (logits.argmax(dim=1) == labels).sum()
    return loss_sum.item() / len(images), correct.item() / len(images)
