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

_HOMES = {
    "load_faces": "facexkit.faces.formats",
    "register_format": "facexkit.faces.formats",
    "FaceSet": "facexkit.faces.faceset",
    "FaceParser": "facexkit.models.parser",
    "JoinedMasks": "facexkit.faces.masks",
    "load_model": "facexkit.models.loading",
    "list_layers": "facexkit.models.layers",
    "train_fineface": "facexkit.systems.fineface_training",
    "both_passes": "facexkit.systems.fineface",
    "attend": "facexkit.systems.fineface",
    "score_regions": "facexkit.measure.region_scores",
    "register_region_method": "facexkit.measure.region_scores",
    "embed": "facexkit.measure.verification",
    "verify": "facexkit.measure.verification",
    "similarities": "facexkit.measure.verification",
    "error_rates": "facexkit.measure.verification",
    "group_scores": "facexkit.measure.verification",
    "split_scores": "facexkit.measure.verification",
    "audit": "facexkit.measure.audit",
    "unit_effects": "facexkit.measure.unit_effects",
    "predict": "facexkit.measure.predictions",
    "accuracy_by": "facexkit.measure.predictions",
    "record": "facexkit.measure.recording",
    "write_activations": "facexkit.measure.recording",
    "crop_faces": "facexkit.faces.cropping",
    "align_faces": "facexkit.faces.alignment",
    "fairface": "facexkit.systems.fairface",
    "ablate": "facexkit.probe.edits",
    "edit": "facexkit.probe.edits",
    "dissect": "facexkit.measure.dissection",
    "rank_concepts": "facexkit.measure.hierarchy",
    "histograms": "facexkit.measure.hierarchy",
    "global_bias": "facexkit.measure.global_bias",
    "read_result": "facexkit.measure.saved",
    "save_scores": "facexkit.measure.saved",
    "plot_units": "facexkit.show.dissection_figures",
    "plot_counts": "facexkit.show.dissection_figures",
    "plot_bias": "facexkit.show.dissection_figures",
    "unit_table": "facexkit.show.dissection_files",
    "write_dissection": "facexkit.show.dissection_files",
    "write_dissection_report": "facexkit.show.dissection_report",
    "plot_audit": "facexkit.show.audit_figures",
    "plot_confusion": "facexkit.show.audit_figures",
    "plot_effects": "facexkit.show.audit_figures",
    "audit_findings": "facexkit.show.audit_findings",
    "effects_finding": "facexkit.show.audit_findings",
    "dissection_findings": "facexkit.show.dissection_findings",
    "bias_findings": "facexkit.show.dissection_findings",
    "face_map": "facexkit.show.face_map",
    "face_maps": "facexkit.show.face_map",
    "plot_attention": "facexkit.systems.fineface_figures",
    "plot_history": "facexkit.systems.fineface_figures",
    "plot_regions": "facexkit.show.figures",
    "findings": "facexkit.show.findings",
    "gallery": "facexkit.show.report",
    "write_report": "facexkit.show.report",
    "write_audit": "facexkit.show.tables",
    "write_tables": "facexkit.show.tables",
    "one_class_each": "facexkit.show.readings",
    "LayerPicker": "facexkit.show.widgets.layer_picker",
    "ClassExplorer": "facexkit.show.widgets.class_explorer",
    "FaceMap": "facexkit.show.widgets.face_map",
    "PatchGallery": "facexkit.show.widgets.patch_gallery",
    "UnitBrowser": "facexkit.show.widgets.unit_browser",
    "FacePicker": "facexkit.show.widgets.face_picker",
    "explore": "facexkit.show.explore",
    "run_stages": "facexkit.stages",
    "conclude": "facexkit.stages",
    "trusted": "facexkit.stages",
}

__all__ = ["FacexkitError", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'facexkit' has no attribute {name!r}")
    from facexkit.arguments import checked

    found = getattr(import_module(_HOMES[name]), name)
    return checked(found) if isfunction(found) else found


def __dir__() -> list[str]:
    return sorted(__all__)
