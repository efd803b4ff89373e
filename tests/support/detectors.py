"""Small detectors of each kind, built by hand or with random weights."""

import torch
from torch import Tensor, nn
from torchvision.models import detection

SIZE = (64, 64)
SMALL = {
    "weights": None,
    "weights_backbone": None,
    "num_classes": 5,
    "min_size": 64,
    "max_size": 64,
}
QUERY_HEADS = (
    "DetrForObjectDetection",
    "ConditionalDetrForObjectDetection",
    "DeformableDetrForObjectDetection",
    "YolosForObjectDetection",
    "RTDetrForObjectDetection",
    "DFineForObjectDetection",
)


def make_torchvision(name: str) -> nn.Module:
    """One of torchvision's, which detects a little of everything."""
    torch.manual_seed(0)
    if name == "faster r-cnn":
        made = detection.fasterrcnn_resnet50_fpn(
            **SMALL, box_score_thresh=0, box_detections_per_img=20, rpn_post_nms_top_n_test=50
        )
    else:
        made = getattr(detection, f"{name}_resnet50_fpn")(
            **SMALL, score_thresh=0, detections_per_img=20
        )
    return made.eval()


def make_pictures(count: int = 2) -> Tensor:
    """Noise, (count, 3, 64, 64)."""
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


class GridHead(nn.Module):
    """A YOLO-like network: three levels, two classes, boxes around each cell.

    Args:
        boxes: "centres", or "corners" as some exporters have it.
        squashed: Whether scores are behind a sigmoid.
        alone: Whether the tensor is returned alone, or first in a tuple.
    """

    def __init__(self, boxes: str = "centres", squashed: bool = True, alone: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
        self.levels = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(3))
        self.boxes, self.squashed, self.alone = boxes, squashed, alone

    def forward(self, pixels: Tensor) -> object:
        features, maps = self.stem(pixels), []
        for level in self.levels:
            features = level(features)
            maps.append(features)
        return self.predict(maps)

    def predict(self, maps: list[Tensor]) -> object:
        """Read boxes and scores of each level's cells."""
        parts = []
        for number, (features, head) in enumerate(zip(maps, self.heads, strict=True)):
            raw = head(features.relu())  # (B, 2 sides and 2 classes, h, w)
            stride = 8 * 2**number
            rows, columns = torch.meshgrid(
                torch.arange(raw.shape[2]), torch.arange(raw.shape[3]), indexing="ij"
            )
            centres = torch.stack([columns + 0.5, rows + 0.5]).expand(len(raw), -1, -1, -1) * stride
            sides = stride * 8 * raw[:, :2].exp()
            if self.boxes == "corners":
                centres, sides = centres - sides / 2, centres + sides / 2
            scores = raw[:, 2:] * 3
            scores = scores.sigmoid() if self.squashed else scores
            parts.append(torch.cat([centres, sides, scores], 1).flatten(2))
        head = torch.cat(parts, 2)
        return head if self.alone else (head, parts)


class Planted(nn.Module):
    """A detector whose first candidate reads one patch of 8 × 8, and nothing else.

    Its second reads another patch. Of a grid head's further candidates each reads its cell of
    the finest level, and the coarser ones the corner.

    Args:
        kind: "final", "queries" or "grid".
    """

    PATCH = (slice(16, 24), slice(40, 48))  # cell (2, 5)
    BOX = (32.0, 8.0, 56.0, 32.0)  # x0, y0, x1, y1 around it
    OTHER_BOX = (4.0, 36.0, 28.0, 60.0)
    CELLS = ((2, 5), (6, 1))

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.features = nn.Conv2d(3, 2, 8, 8)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[0] = 1 / 192
            self.features.bias.zero_()
        self.relu = nn.ReLU()
        self.config = type("Config", (), {"num_labels": 3})()

    def forward(self, pixels: Tensor) -> object:
        brightness = self.relu(self.features(pixels))[:, 0]  # (B, 8, 8)
        logits = torch.stack([brightness[:, row, column] for row, column in self.CELLS], 1)
        boxes = torch.tensor([self.BOX, self.OTHER_BOX]).expand(len(pixels), -1, -1)
        if self.kind == "final":
            return [
                {"boxes": box, "scores": score.sigmoid(), "labels": torch.tensor([1, 2])}
                for box, score in zip(boxes, logits, strict=True)
            ]
        sides = boxes[..., 2:] - boxes[..., :2]
        centres = torch.cat([boxes[..., :2] + sides / 2, sides], 2)
        if self.kind == "queries":
            spread = [torch.full_like(logits, -6), logits, torch.full_like(logits, -5)]
            return {"logits": torch.stack(spread, 2), "pred_boxes": centres / 64}
        cells = torch.cat(
            [logits, brightness.flatten(1)[:, 2:], brightness[:, :1, 0].expand(-1, 20)], 1
        )
        rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
        cells_at = torch.stack([columns * 8 + 4, rows * 8 + 4], 2).flatten(0, 1).float()[2:]
        cells_at = torch.cat([cells_at, torch.full_like(cells_at, 6)], 1)
        rest = torch.cat([cells_at, torch.tensor([[4.0, 4, 60, 60]]).expand(20, -1)])
        centres = torch.cat([centres, rest.expand(len(pixels), -1, -1)], 1)
        scores = torch.stack([torch.full_like(cells, 0.01), cells.sigmoid()], 2)
        return torch.cat([centres, scores], 2).transpose(1, 2), None
