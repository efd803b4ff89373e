"""Maps as bytes come back as they were, to half a level."""

import numpy as np
import pytest

from cam._runs.storage.map_levels import decode_evidence, decode_map, encode_maps


@pytest.mark.parametrize("signed", [False, True])
def test_a_map_comes_back_to_half_a_level(signed):
    values = np.random.default_rng(0).uniform(-1 if signed else 0, 1, (5, 5)).astype(np.float32)
    values[0, :3] = (0, 1, np.nan)
    back = decode_map(encode_maps(values, signed).tobytes(), 5, signed)
    expected = np.nan_to_num(values)
    assert np.abs(back - expected).max() <= (1 / 127 if signed else 1 / 255) / 2 + 1e-6
    assert back[0, 0] == 0 and back[0, 1] == 1 and back[0, 2] == 0


def test_evidence_is_what_speaks_for_the_class():
    values = np.array([[-1.0, -0.5], [0.0, 1.0]])
    levels = encode_maps(values, True).tobytes()
    assert decode_evidence(levels, True).tolist() == [0, 0, 0, 255]
    plain = encode_maps(values.clip(0), False).tobytes()
    assert decode_evidence(plain, False).tolist() == [0, 0, 0, 255]
