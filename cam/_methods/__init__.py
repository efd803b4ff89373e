"""Register the attribution methods: importing this package imports them all."""

import cam._methods.attention.attention_methods
import cam._methods.cams.activation_cam
import cam._methods.cams.class_cam
import cam._methods.cams.contrast_cam
import cam._methods.cams.gradient_cam
import cam._methods.cams.projection_cam
import cam._methods.cams.score_cam
import cam._methods.cams.shapley_cam
import cam._methods.cams.smooth_cam
import cam._methods.cams.smooth_score_cam
import cam._methods.gradients.deeplift
import cam._methods.gradients.expected_gradients
import cam._methods.gradients.full_gradient
import cam._methods.gradients.integrated_gradients
import cam._methods.gradients.lrp
import cam._methods.gradients.modified_backward
import cam._methods.gradients.noisy_gradients
import cam._methods.gradients.path_gradients
import cam._methods.gradients.pixel_gradient
import cam._methods.gradients.xrai
import cam._methods.perturbation.extremal_perturbation
import cam._methods.perturbation.input_masking
import cam._methods.perturbation.superpixels
