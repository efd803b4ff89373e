"""The class of each pixel against torchvision's, transformers' and arithmetic."""

import pytest
import torch
from torch import nn
from torchvision.models import segmentation

import cam
from tests.support.segmenters import LeftHalf, make_pictures


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


@pytest.mark.parametrize("name", ["fcn_resnet50", "lraspp_mobilenet_v3_large"])
def test_torchvisions_own_classes(name, pictures):
    torch.manual_seed(0)
    network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5).eval()
    with torch.no_grad():
        expected = network(pictures)["out"].argmax(1)
    model = cam.Model(network, labels=list("abcde"))
    actual = model.segment(pictures)
    assert model.segments and not model.detects
    for image, classes in zip(actual, expected, strict=True):
        assert torch.equal(image.mask, classes)
        counts = classes.flatten().bincount(minlength=5)
        assert image.classes[0] == int(counts.argmax())
        assert image.share(image.classes[0]) == pytest.approx(float(counts.max()) / 64**2)
        assert image.label(image.classes[0]) == "abcde"[image.classes[0]]


def make_hugging_face(name: str) -> nn.Module:
    pytest.importorskip("transformers")
    from benchmarks.coverage.hugging_face_others import SEGMENTERS

    torch.manual_seed(0)
    return SEGMENTERS[name]().eval()


@pytest.mark.parametrize(
    "name",
    [
        "SegformerForSemanticSegmentation",
        "UperNetForSemanticSegmentation (Swin)",
        "Mask2FormerForUniversalSegmentation",
    ],
)
def test_classes_as_transformers_reads_them(name):
    import transformers

    network = make_hugging_face(name)
    pictures = torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        record = network(pictures)
    # Mask2Former's processor first enlarges to 384 × 384, which is its training's size.
    family = "MaskFormer" if name.startswith("Mask") else "Segformer"
    processor = getattr(transformers, f"{family}ImageProcessor")()
    expected = processor.post_process_semantic_segmentation(record, [(128, 96)] * 2)
    for image, classes in zip(cam.Model(network).segment(pictures), expected, strict=True):
        assert torch.equal(image.mask, classes)


def test_a_query_model_answers_for_each_class():
    """The output that is explained is Σ_q p_q(class) m_q(pixel), worked out in float64."""
    network = make_hugging_face("Mask2FormerForUniversalSegmentation")
    pictures = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        record = network(pictures)
    classes = record.class_queries_logits.double().softmax(-1)[..., :-1]
    masks = record.masks_queries_logits.double().sigmoid()
    expected = torch.einsum("bqk,bqhw->bkhw", classes, masks)
    actual = cam.Model(network).score(pictures)
    assert actual.shape == expected.shape
    assert torch.allclose(actual.double(), expected, atol=1e-4)


def test_a_bare_tensor_is_declared(pictures):
    network = LeftHalf()
    undeclared = cam.Model(network)
    assert not undeclared.segments
    with pytest.raises(cam.ModelError, match=r"nothing shows that its maps are classes; say so"):
        undeclared.segment(pictures)
    for model in (
        cam.Model(network, task="segmentation"),
        cam.Model(network, labels=["dark", "bright"]),
    ):
        assert model.segments
        with torch.no_grad():
            expected = network(pictures).argmax(1)
        assert torch.equal(model.segment(pictures)[1].mask, expected[1])


def test_a_classifier_is_no_segmenter(pictures):
    model = cam.Model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3)), task="segmentation")
    with pytest.raises(cam.ModelError, match="returns no map for each class"):
        model.segment(pictures)
    with pytest.raises(cam.ModelError, match="a model's task is 'detection', "):
        cam.Model(nn.Identity(), task="segment")


def test_by_name(pictures):
    assert "torchvision/lraspp_mobilenet_v3_large" in cam.model_names()
    torch.manual_seed(0)
    model = cam.load_model("torchvision/lraspp_mobilenet_v3_large", weights=None)
    assert model.segments and model.labels[8] == "cat"
    batch = model.prepare(cam.sample("chelsea"))  # 300 × 451
    assert batch.shape[2] == 520
    assert model.crop(cam.sample("chelsea")).size == (451, 300)
    small = nn.functional.interpolate(batch, (64, 96))
    assert model.segment(small)[0].mask.shape == (64, 96)
