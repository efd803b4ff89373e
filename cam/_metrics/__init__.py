"""Register the metrics: importing this package imports them all."""

import cam._metrics.complexity.sparseness
import cam._metrics.faithfulness.infidelity
import cam._metrics.faithfulness.information_curves
import cam._metrics.faithfulness.pixel_removal
import cam._metrics.faithfulness.road
import cam._metrics.localisation.object_masks
import cam._metrics.randomisation.model_randomisation
import cam._metrics.robustness.stability
