"""FineFACE as its definition reads, an image at a time and the whole network in every step: to compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from facexkit.systems.fineface import WIDTHS


def _block(channels: int, squeeze: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, squeeze, 1, bias=False), nn.BatchNorm2d(squeeze, eps=1e-5, momentum=0.01), nn.ReLU(),
        nn.Conv2d(squeeze, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, eps=1e-5, momentum=0.01), nn.ReLU(),
    )  # fmt: skip


def _head(width: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(width), nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ELU(), nn.Linear(hidden, classes)
    )


class PlainFineFace(nn.Module):
    """The network in one piece; its weights have the kit's names."""

    def __init__(self, backbone: str = "resnet50", classes: int = 2, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        resnet = torchvision.models.get_model(backbone, weights=None)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(resnet, name))
        squeeze, width, hidden = widths
        full = resnet.fc.in_features
        for k, channels in ((1, full // 4), (2, full // 2), (3, full)):
            parts = {"block": _block(channels, squeeze, width), "classifier": _head(width, hidden, classes)}
            setattr(self, f"expert{k}", nn.ModuleDict(parts))
        self.concat = _head(3 * width, hidden, classes)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the four logits, of experts 1, 2, 3 and the concatenation, and the three experts' feature maps."""
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        logits, pooled, features = [], [], []
        for stage, expert in ((self.layer2, self.expert1), (self.layer3, self.expert2), (self.layer4, self.expert3)):
            x = stage(x)
            features.append(expert["block"](x))
            pooled.append(F.max_pool2d(features[-1], features[-1].shape[-2:]).flatten(1))
            logits.append(expert["classifier"](pooled[-1]))
        return [*logits, self.concat(torch.cat(pooled, 1))], features


@torch.no_grad()
def attention_maps(network: PlainFineFace, features: list[Tensor], logits: list[Tensor]) -> list[Tensor]:
    """Return each expert's maps (B, h, w): every place's features through both linear layers, for the predicted class."""
    found = []
    for k in range(3):
        head = getattr(network, f"expert{k + 1}")["classifier"]
        rows = []
        for image, said in zip(features[k], logits[k], strict=True):
            places = image.flatten(1).T @ head[1].weight.T @ head[4].weight.T
            rows.append(places[:, said.argmax()].reshape(image.shape[1:]))
        found.append(torch.stack(rows))
    return found


def _scaled(one: Tensor) -> Tensor:
    return (one - one.min()) / (one.max() - one.min())


def box_of(maps: list[Tensor], size: int) -> tuple[int, int, int, int]:
    """Return one image's box, top, bottom, left, right, of the sum of its scaled maps (h, w)."""
    total = torch.zeros(size, size, dtype=maps[0].dtype)
    for one in maps:
        total += _scaled(F.interpolate(one[None, None], (size, size), mode="bilinear")[0, 0])
    above, margin = _scaled(total) >= 0.5, round(0.1 * size)
    rows = [y for y in range(size) if above[y].any()]
    columns = [x for x in range(size) if above[:, x].any()]
    ends = [(max(at[0] - margin, 0), min(at[-1] + 1 + margin, size)) for at in (rows, columns)]
    return (*ends[0], *ends[1])


def cut(images: Tensor, maps: list[Tensor]) -> Tensor:
    """Return the attention crops of images by one expert's maps, or by several taken together."""
    size, crops = images.shape[-1], []
    for k, image in enumerate(images):
        top, bottom, left, right = box_of([one[k] for one in maps], size)
        crops.append(F.interpolate(image[None, :, top:bottom, left:right], (size, size), mode="bilinear")[0])
    return torch.stack(crops)


def plain_step(
    network: PlainFineFace, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer, choices: tuple[int, int]
) -> list[float]:
    """Do the five steps on a batch, and return their losses; see `facexkit.systems.fineface_training.five_steps`."""
    losses = []

    def descend(shown: Tensor, weights: tuple[int, int, int, int]) -> tuple[list[Tensor], list[Tensor]]:
        optimizer.zero_grad()
        logits, features = network(shown)
        loss = sum(w * F.cross_entropy(out, labels) for w, out in zip(weights, logits, strict=True) if w)
        maps = attention_maps(network, features, logits)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        return maps

    one, two, three = descend(images, (0, 0, 1, 0))
    descend([cut(images, [three]), cut(images, [one]), images][choices[0]], (0, 1, 0, 0))
    descend([cut(images, [three]), cut(images, [two]), images][choices[1]], (1, 0, 0, 0))
    descend(cut(images, [one, two, three]), (1, 1, 1, 2))
    descend(images, (0, 0, 0, 2))
    return losses
