"""What does this face model look at, which of its units know what, and whom does it treat worse?

    import facexkit as fx

    faces = fx.load_faces("synthetic")
    model = fx.load_model("demo:biased")
    fx.list_layers(model)
    scores = fx.score_regions(model, faces, layer="layer4", target_class=1)

A name is imported when it is first used, so that the import itself is quick.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from inspect import isfunction

from facexkit.errors import FacexkitError, StageDoesNotApply

_NAMES = {
    "faces.formats": "load_faces register_format",
    "faces.faceset": "FaceSet",
    "models.parser": "FaceParser",
    "faces.masks": "JoinedMasks",
    "models.loading": "load_model",
    "models.preprocess": "Preprocess",
    "models.layers": "list_layers",
    "systems.fineface_training": "train_fineface",
    "systems.fineface": "with_all_outputs expert_attention",
    "measure.region_scores": "score_regions register_region_method",
    "measure.region_methods": "RegionMethod",
    "measure.verification": "embed explain_verification similarities error_rates error_rate_gaps group_scores split_scores",
    "measure.audit": "audit",
    "measure.unit_effects": "unit_effects",
    "measure.attribution_maps": "attribution_maps",
    "measure.predictions": "predict accuracy_by",
    "measure.recording": "record write_activations",
    "measure.found_faces": "find_faces",
    "measure.photographs": "crop_faces align_faces",
    "systems.fairface": "fairface",
    "probe.edits": "ablate edit",
    "measure.dissection": "dissect",
    "measure.hierarchy": "rank_concepts count_units",
    "measure.global_bias": "global_bias",
    "measure.share_interval": "accused",
    "measure.trust": "randomized_scores exchange_curves rank_agreement",
    "measure.saved": "read_result write_scores",
    "mend.repair": "repair",
    "show.regions": "plot_regions plot_interactions region_findings write_score_tables",
    "show.exchanges": "show_exchanges",
    "show.by_hand": "plot_one_face",
    "show.repair": "repair_findings plot_repair",
    "show.trust": "plot_randomized plot_curves trust_findings",
    "show.standalone": "write_explorer",
    "show.report": "show_examples write_region_report",
    "show.face_map": "face_map face_maps",
    "show.dissection": "plot_units plot_counts plot_bias dissection_findings bias_findings unit_table write_dissection",
    "show.dissection_report": "write_dissection_report",
    "show.audit": "plot_audit plot_confusion plot_mistakes plot_effects audit_findings effects_findings write_audit",
    "show.audit_page": "write_audit_page",
    "show.data_sets": "to_fiftyone to_spotlight",
    "systems.fineface_figures": "plot_attention plot_history",
    "systems.face_dissect_figures": "plot_affinity plot_biased_units plot_probabilities count_concepts count_biased",
    "systems.face_dissect_files": "read_face_dissect",
    "systems.facex": "run_facex",
    "show.widgets.layer_picker": "LayerPicker",
    "show.widgets.class_explorer": "ClassExplorer",
    "show.widgets.face_map": "FaceMap",
    "show.widgets.patch_gallery": "PatchGallery",
    "show.widgets.unit_browser": "UnitBrowser",
    "show.widgets.face_picker": "FacePicker",
    "show.explore": "explore",
    "show.run": "Run run_is_trusted",
    "stages": "run_stages save_findings",
}
_HOMES = {name: f"facexkit.{module}" for module, names in _NAMES.items() for name in names.split()}

_RENAMED = {
    "conclude": "save_findings", "trusted": "run_is_trusted", "histograms": "count_units", "attend": "expert_attention",
    "both_passes": "with_all_outputs", "gallery": "show_examples", "one_class_each": "each_class",
    "split_classes": "each_class", "verify": "explain_verification", "save_scores": "write_scores", "write_tables": "write_score_tables",
    "write_report": "write_region_report", "findings": "region_findings", "effects_finding": "effects_findings",
}  # fmt: skip
"""Public names of before, which still work in this version."""
_GONE = "every result has the dimension target_class, and what shows results takes all their classes"

__all__ = ["FacexkitError", "StageDoesNotApply", *_HOMES]


def __getattr__(name: str) -> object:
    if new := _RENAMED.get(name):
        now = f"is called fx.{new} now" if new in _HOMES else f"is not needed: {_GONE}"
        told = f"fx.{name} {now}; the old name works in this version and goes with the next"
        warnings.warn(told, DeprecationWarning, stacklevel=2)
    home = _HOMES.get(new or name, "facexkit.show.readings" if new else None)
    if home is None:
        raise AttributeError(f"module 'facexkit' has no attribute {name!r}")
    from facexkit.arguments import checked

    module = import_module(home)
    found = getattr(module, name, None) or getattr(module, new)
    return checked(found) if isfunction(found) else found


def __dir__() -> list[str]:
    return sorted(__all__)
