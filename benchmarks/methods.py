"""What an explanation costs beside a plain forward, each figure against its goal.

``python -m benchmarks.methods``: ResNet-50 with random weights (speed does not depend on them), a
batch of 8, fp32, medians of 7 interleaved rounds.
"""

import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM

import cam
from benchmarks.timing import interleaved, machine

BATCH = 8
GOAL = 1.1


def main() -> None:
    """Print each figure beside its goal."""
    torch.manual_seed(0)
    model = cam.load_model("torchvision/resnet50", weights=None)
    module = model.module
    batch = torch.randn(BATCH, 3, 224, 224)
    layer = module.layer4
    targets = [0] * BATCH
    peer = LayerGradCam(module, layer)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = module(batch)
            return result

    # Made anew each round: the hooks that it leaves on the model would slow the others.
    def grad_cam() -> None:
        with GradCAM(module, [layer]) as explainer:
            explainer(batch, None)

    times = interleaved(
        {
            "plain forward": forward,
            "gradcam, ours": lambda: cam.attribute(model, batch, "gradcam", layers=layer),
            "gradcam, captum": lambda: peer.attribute(batch, target=targets),
            "gradcam, grad-cam": grad_cam,
            "saliency, ours": lambda: cam.attribute(model, batch, "saliency"),
            "gradcam and saliency, ours": lambda: cam.attribute(model, batch, layers=layer),
        }
    )
    plain = times["plain forward"]
    print(f"ResNet-50, batch of {BATCH}, fp32; {machine()}")
    print(f"{'work':28} {'median':>9} {'× forward':>10}")
    for name, timing in times.items():
        print(f"{name:28} {timing.median * 1000:6.0f} ms {timing.over(plain):10.2f}")
    ratio = times["gradcam, ours"].over(plain)
    verdict = "met" if ratio <= GOAL else "missed"
    print(f"\ngoal: gradcam at most {GOAL} × a plain forward: {verdict}, {ratio:.2f} ×")
    for name in ("captum", "grad-cam"):
        faster = times[f"gradcam, {name}"].over(times["gradcam, ours"])
        print(f"{name} takes {faster:.2f} × our time")


if __name__ == "__main__":
    main()
