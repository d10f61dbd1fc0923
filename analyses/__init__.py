"""What contributions and receptive fields say: modes, dynamics, comparison, figures."""

from __future__ import annotations

from retinacodec.analyses.ablation_curves import ablation_curves
from retinacodec.analyses.ablation_figure import draw_ablation, draw_control
from retinacodec.analyses.ablation_rankings import (
    channel_rankings,
    mode_rankings,
    superclass_weights,
)
from retinacodec.analyses.ablations import ablation_summary
from retinacodec.analyses.alignment import alignment_words, check_alignment
from retinacodec.analyses.alignment_figure import alignment_figure
from retinacodec.analyses.cell_consensus import consensus_clusters, draw_consensus
from retinacodec.analyses.cell_groups import (
    agreement_null,
    cluster_agreement,
    cluster_cells,
    match_clusters,
    mode_cell_correlation,
    silhouette_null,
)
from retinacodec.analyses.class_correlations import mode_class_correlation
from retinacodec.analyses.class_gallery import (
    class_gallery,
    class_gallery_figure,
    draw_mode_pictures,
)
from retinacodec.analyses.combination_figure import draw_combination_table
from retinacodec.analyses.combinations import (
    combination_frames,
    combination_table,
    lone_frames,
    telling_modes,
)
from retinacodec.analyses.comparison import compare_models, draw_comparison
from retinacodec.analyses.comparison_figure import (
    comparison_figure,
    draw_ceiling,
    draw_distribution,
    draw_pair,
)
from retinacodec.analyses.comparison_table import (
    comparison_table,
    comparison_words,
    write_comparison_table,
)
from retinacodec.analyses.concept_masks import (
    attribute_concepts,
    label_concepts,
    pixel_concepts,
)
from retinacodec.analyses.depth_curves import depth_curves, depth_overview
from retinacodec.analyses.depth_figure import draw_depth
from retinacodec.analyses.dynamic_fields import (
    draw_dynamic_field,
    draw_mode_field,
    dynamic_fields,
)
from retinacodec.analyses.dynamics_figure import dynamics_figure, dynamics_numbers
from retinacodec.analyses.event_concepts import lagged_events, response_events
from retinacodec.analyses.event_rules import EventRules, Quantile
from retinacodec.analyses.explained_masks import channel_masks, map_masks, mode_masks
from retinacodec.analyses.explanation_figure import (
    draw_explained_image,
    draw_explanations,
    explanation_gallery,
    explanation_rows,
    explanation_words,
    explanations_figure,
)
from retinacodec.analyses.explanation_nulls import PermutedImages, ShiftedMasks
from retinacodec.analyses.explanation_tests import (
    ablation_test,
    edit_test,
    paste_patches,
    paste_test,
)
from retinacodec.analyses.explanations import explain
from retinacodec.analyses.field_checks import compare_with_average, draw_field_agreement
from retinacodec.analyses.field_dynamics import draw_dynamics, field_dynamics
from retinacodec.analyses.field_film import FieldScene, draw_field_scene, field_film, field_scene
from retinacodec.analyses.field_fits import DifferenceOfGaussians, Gaussian, fit_gaussians
from retinacodec.analyses.field_frames import consecutive_frames, loading_at, loading_on, mode_sets
from retinacodec.analyses.field_gallery import (
    draw_field,
    draw_kernel,
    field_gallery,
)
from retinacodec.analyses.field_pairs import compare_fields
from retinacodec.analyses.field_persistence import draw_persistence, field_persistence
from retinacodec.analyses.field_similarity import draw_similarity, field_similarity
from retinacodec.analyses.field_transitions import (
    draw_transitions,
    polarity_states,
    state_transitions,
)
from retinacodec.analyses.field_variance import draw_variance, field_variance
from retinacodec.analyses.fields_table import (
    fields_table,
    fields_table_markdown,
    fields_table_words,
)
from retinacodec.analyses.figures import (
    draw_combinations,
    draw_contributions,
    draw_events,
    draw_groups,
    draw_loadings,
    panel_numbers,
    retina_figure,
)
from retinacodec.analyses.ground_truth import (
    draw_ground_truth,
    ground_truth_markdown,
    ground_truth_table,
    score_modes,
)
from retinacodec.analyses.image_motion import image_motion
from retinacodec.analyses.interneuron_contributions import matched_contributions
from retinacodec.analyses.interneuron_controls import LinearFilter, compare_interneurons
from retinacodec.analyses.interneuron_figure import (
    draw_interneuron_map,
    draw_interneuron_matches,
    draw_interneuron_trace,
    interneuron_figure,
)
from retinacodec.analyses.interneuron_generalisation import generalise_interneurons
from retinacodec.analyses.interneurons import match_interneurons
from retinacodec.analyses.kernel_summary import kernel_summary
from retinacodec.analyses.kernels_figure import kernel_gallery
from retinacodec.analyses.layer_activations import channel_activations, line_movie, pad_movie
from retinacodec.analyses.map_pictures import draw_masked, map_mask, masked_picture
from retinacodec.analyses.mode_choice import choose_modes, draw_mode_choice
from retinacodec.analyses.mode_contrast import contrast_modes, draw_contrast
from retinacodec.analyses.mode_correlations import draw_mode_correlations, mode_event_correlation
from retinacodec.analyses.mode_coverage import (
    class_coverage,
    correlated_modes,
    draw_coverage,
    mode_class_stability,
    mode_coverage,
    specificity,
)
from retinacodec.analyses.mode_effects import mode_mode_effects, mode_output_effects
from retinacodec.analyses.mode_explanations import (
    explain_modes,
    formula_polarity,
    score_formulas,
    wired_polarity,
)
from retinacodec.analyses.mode_fields import mode_fields
from retinacodec.analyses.mode_figures import (
    draw_atoms,
    draw_mode_loadings,
    draw_mode_scores,
    draw_modes_raster,
    draw_rates_raster,
    draw_stability,
)
from retinacodec.analyses.mode_polarity import mode_polarity
from retinacodec.analyses.mode_projection import distil_modes, project_modes
from retinacodec.analyses.model_tests import model_tests, paired_tests
from retinacodec.analyses.modes import find_modes
from retinacodec.analyses.modes_overview import modes_figure, modes_numbers
from retinacodec.analyses.nonlinearity import draw_nonlinearity, static_nonlinearity
from retinacodec.analyses.panels import active_modes, choose_combinations, choose_events
from retinacodec.analyses.pathway_recovery import (
    compare_pathway_recovery,
    draw_pathway_areas,
    draw_pathway_atoms,
)
from retinacodec.analyses.pathways import match_pathways, pathway_truth
from retinacodec.analyses.planted import SCENARIOS, Planted
from retinacodec.analyses.polarity_flips import draw_flips, polarity_flips
from retinacodec.analyses.population_glm import PopulationGLM, fit_glm
from retinacodec.analyses.population_ln import PopulationLN, fit_ln
from retinacodec.analyses.pruning import (
    draw_pruning,
    importance,
    pruning_curves,
    weight_norms,
)
from retinacodec.analyses.receptive_fields import (
    draw_sta,
    draw_time_course,
    spike_triggered_average,
    sta_peaks,
)
from retinacodec.analyses.regularised_fields import (
    draw_regularised,
    draw_regularised_course,
    regularised_fields,
)
from retinacodec.analyses.reliability import draw_reliability, response_reliability
from retinacodec.analyses.retina_panels import retina_panels
from retinacodec.analyses.scheme import draw_scheme
from retinacodec.analyses.silencing import (
    effect_correlations,
    rival_quantities,
    silencing_effects,
)
from retinacodec.analyses.source_shares import source_shares
from retinacodec.analyses.sources_figure import draw_source_shares, draw_sources, sources_figure
from retinacodec.analyses.sources_numbers import sources_numbers
from retinacodec.analyses.spike_covariance import draw_eigenvalues, spike_triggered_covariance
from retinacodec.analyses.sta_bands import sta_bands, sta_profiles
from retinacodec.analyses.sta_significance import ShiftNull, WhiteNull, sta_significance
from retinacodec.analyses.statistics import compare_quantities, layer_statistics, sign_correlation
from retinacodec.analyses.stimulus_events import stimulus_events
from retinacodec.analyses.stimulus_transfer import compare_stimuli, draw_loss, draw_transfer
from retinacodec.analyses.subunits import draw_subunits, subunits
from retinacodec.analyses.summaries import (
    draw_prediction,
    draw_residuals,
    draw_training,
    relative_residuals,
)
from retinacodec.analyses.superclass import superclass_ablation
from retinacodec.analyses.synthesis import probe_library, synthesis_test, synthesise
from retinacodec.analyses.synthesis_figure import draw_synthesis
from retinacodec.analyses.untrained import untrained_like
from retinacodec.analyses.window_covariances import NestedShifts

__all__ = [
    "DifferenceOfGaussians", "EventRules", "FieldScene", "Gaussian", "LinearFilter",
    "NestedShifts", "PermutedImages", "Planted", "PopulationGLM", "PopulationLN", "Quantile",
    "SCENARIOS", "ShiftNull", "ShiftedMasks", "WhiteNull", "ablation_curves",
    "ablation_summary", "ablation_test", "active_modes", "agreement_null", "alignment_figure",
    "alignment_words", "attribute_concepts", "channel_activations", "channel_masks",
    "channel_rankings", "check_alignment", "choose_combinations", "choose_events",
    "choose_modes", "class_coverage", "class_gallery", "class_gallery_figure",
    "cluster_agreement", "cluster_cells", "combination_frames", "combination_table",
    "compare_fields", "compare_interneurons", "compare_models", "compare_pathway_recovery",
    "compare_quantities", "compare_stimuli", "compare_with_average", "comparison_figure",
    "comparison_table", "comparison_words", "consecutive_frames", "consensus_clusters",
    "contrast_modes", "correlated_modes", "depth_curves", "depth_overview", "distil_modes",
    "draw_ablation", "draw_atoms", "draw_ceiling", "draw_combination_table",
    "draw_combinations", "draw_comparison", "draw_consensus", "draw_contrast",
    "draw_contributions", "draw_control", "draw_coverage", "draw_depth", "draw_distribution",
    "draw_dynamic_field", "draw_dynamics", "draw_eigenvalues", "draw_events",
    "draw_explained_image", "draw_explanations", "draw_field", "draw_field_agreement",
    "draw_field_scene", "draw_flips", "draw_ground_truth", "draw_groups",
    "draw_interneuron_map", "draw_interneuron_matches", "draw_interneuron_trace",
    "draw_kernel", "draw_loadings", "draw_loss", "draw_masked", "draw_mode_choice",
    "draw_mode_correlations", "draw_mode_field", "draw_mode_loadings", "draw_mode_pictures",
    "draw_mode_scores", "draw_modes_raster", "draw_nonlinearity", "draw_pair",
    "draw_pathway_areas", "draw_pathway_atoms", "draw_persistence", "draw_prediction",
    "draw_pruning", "draw_rates_raster", "draw_regularised", "draw_regularised_course",
    "draw_reliability", "draw_residuals", "draw_scheme", "draw_similarity",
    "draw_source_shares", "draw_sources", "draw_sta", "draw_stability", "draw_subunits",
    "draw_synthesis", "draw_time_course", "draw_training", "draw_transfer", "draw_transitions",
    "draw_variance", "dynamic_fields", "dynamics_figure", "dynamics_numbers", "edit_test",
    "effect_correlations", "explain", "explain_modes", "explanation_gallery",
    "explanation_rows", "explanation_words", "explanations_figure", "field_dynamics",
    "field_film", "field_gallery", "field_persistence", "field_scene", "field_similarity",
    "field_variance", "fields_table", "fields_table_markdown", "fields_table_words",
    "find_modes", "fit_gaussians", "fit_glm", "fit_ln", "formula_polarity",
    "generalise_interneurons", "ground_truth_markdown", "ground_truth_table", "image_motion",
    "importance", "interneuron_figure", "kernel_gallery", "kernel_summary", "label_concepts",
    "lagged_events", "layer_statistics", "line_movie", "loading_at", "loading_on",
    "lone_frames", "map_mask", "map_masks", "masked_picture", "match_clusters",
    "match_interneurons", "match_pathways", "matched_contributions", "mode_cell_correlation",
    "mode_class_correlation", "mode_class_stability", "mode_coverage",
    "mode_event_correlation", "mode_fields", "mode_masks", "mode_mode_effects",
    "mode_output_effects", "mode_polarity", "mode_rankings", "mode_sets", "model_tests",
    "modes_figure", "modes_numbers", "pad_movie", "paired_tests", "panel_numbers",
    "paste_patches", "paste_test", "pathway_truth", "pixel_concepts", "polarity_flips",
    "polarity_states", "probe_library", "project_modes", "pruning_curves",
    "regularised_fields", "relative_residuals", "response_events", "response_reliability",
    "retina_figure", "retina_panels", "rival_quantities", "score_formulas", "score_modes",
    "sign_correlation", "silencing_effects", "silhouette_null", "source_shares",
    "sources_figure", "sources_numbers", "specificity", "spike_triggered_average",
    "spike_triggered_covariance", "sta_bands", "sta_peaks", "sta_profiles", "sta_significance",
    "state_transitions", "static_nonlinearity", "stimulus_events", "subunits",
    "superclass_ablation", "superclass_weights", "synthesis_test", "synthesise",
    "telling_modes", "untrained_like", "weight_norms", "wired_polarity",
    "write_comparison_table",
]  # fmt: skip
