"""Offer torchcam's extractors (0.5.0), with its maps, shapes and normalisation.

``from torchcam.methods import LayerCAM`` becomes ``from cam.compat.torchcam.methods import
LayerCAM``. What differs: what is refused is a :class:`cam.CamError`, and NaN in a layer shows in
its map, where torchcam counts it as 0.
"""
