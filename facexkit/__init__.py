"""What does this face model look at, which of its units know what, and whom does it treat worse?

    import facexkit as fx

    faces = fx.load_faces("synthetic")
    model = fx.load_model("demo:biased")
    fx.list_layers(model)
    scores = fx.score_regions(model, faces, layer="layer4", target_class=1)

A name is imported when it is first used, so that the import itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from inspect import isfunction

from facexkit.errors import FacexkitError

_NAMES = {
    "faces.formats": "load_faces register_format",
    "faces.faceset": "FaceSet",
    "models.parser": "FaceParser",
    "faces.masks": "JoinedMasks",
    "models.loading": "load_model",
    "models.layers": "list_layers",
    "systems.fineface_training": "train_fineface",
    "systems.fineface": "both_passes attend",
    "measure.region_scores": "score_regions register_region_method",
    "measure.verification": "embed verify similarities error_rates group_scores split_scores",
    "measure.audit": "audit",
    "measure.unit_effects": "unit_effects",
    "measure.predictions": "predict accuracy_by",
    "measure.recording": "record write_activations",
    "faces.cropping": "crop_faces",
    "faces.alignment": "align_faces",
    "systems.fairface": "fairface",
    "probe.edits": "ablate edit",
    "measure.dissection": "dissect",
    "measure.hierarchy": "rank_concepts histograms",
    "measure.global_bias": "global_bias",
    "measure.saved": "read_result save_scores",
    "show.dissection_figures": "plot_units plot_counts plot_bias",
    "show.dissection_files": "unit_table write_dissection",
    "show.dissection_report": "write_dissection_report",
    "show.audit_figures": "plot_audit plot_confusion plot_effects",
    "show.audit_findings": "audit_findings effects_finding",
    "show.dissection_findings": "dissection_findings bias_findings",
    "show.face_map": "face_map face_maps",
    "systems.fineface_figures": "plot_attention plot_history",
    "show.figures": "plot_regions",
    "show.findings": "findings",
    "show.report": "gallery write_report",
    "show.tables": "write_audit write_tables",
    "show.readings": "one_class_each",
    "show.widgets.layer_picker": "LayerPicker",
    "show.widgets.class_explorer": "ClassExplorer",
    "show.widgets.face_map": "FaceMap",
    "show.widgets.patch_gallery": "PatchGallery",
    "show.widgets.unit_browser": "UnitBrowser",
    "show.widgets.face_picker": "FacePicker",
    "show.explore": "explore",
    "stages": "run_stages conclude trusted",
}
_HOMES = {name: f"facexkit.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = ["FacexkitError", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'facexkit' has no attribute {name!r}")
    from facexkit.arguments import checked

    found = getattr(import_module(_HOMES[name]), name)
    return checked(found) if isfunction(found) else found


def __dir__() -> list[str]:
    return sorted(__all__)
