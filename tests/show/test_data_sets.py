"""Faces with what was found, as FiftyOne and Spotlight read them."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

import facexkit as fx
from facexkit.errors import FacexkitError


@pytest.fixture(scope="module")
def found(demo_models):
    """Twelve drawn faces, what the biased model says of them, its regions by face, and its maps."""
    faces, model = fx.load_faces("synthetic", target="gender", limit=12), demo_models["biased"]
    how = {"progress": False, "workers": 0}
    return faces, {
        "scores": fx.score_regions(model, faces, layer="layer4", target_class=[0, 1], **how),
        "predictions": fx.predict(model, faces, **how),
        "maps": fx.attribution_maps(model, faces, "layer4", [0, 1], **how),
    }


def unpacked(text):
    """An array as FiftyOne's deserialize_numpy_array(text, ascii=True) reads it."""
    return np.load(io.BytesIO(zlib.decompress(base64.b64decode(text.encode("ascii")))))


def test_maps_are_those_of_the_best_examples(found):
    _, results = found
    scores, maps = results["scores"], results["maps"]
    for one in (0, 1):
        part = scores.sel(target_class=one, region="nose")
        own = maps.attribution.sel(target_class=one).values[list(maps.image.values).index(part.example_image.values[0])]
        np.testing.assert_allclose(own, part.example_map.values[0], atol=1e-6)


def test_fiftyone_gets_every_face_with_labels_scores_and_maps(found, tmp_path):
    faces, results = found
    told = json.loads(fx.to_fiftyone(faces, tmp_path, **results).read_text())
    assert len(told["samples"]) == len(faces)
    scores, maps, said = results["scores"], results["maps"], results["predictions"]
    for row, sample in enumerate(told["samples"]):
        assert sample["ground_truth"]["label"] == faces.table.gender[row]
        assert sample["prediction"]["label"] == said.predicted[row]
        assert sample["prediction"]["confidence"] == pytest.approx(said.confidence[row])
        place = list(scores.row.values).index(row)
        assert sample["facex_hair_class_1"] == pytest.approx(float(scores.per_image.sel(target_class=1, region="hair")[place]))
        np.testing.assert_array_equal(unpacked(sample["map_class_0"]["map"]), maps.attribution.values[0, row])
        with Image.open(tmp_path / sample["filepath"]) as picture:
            near = np.abs(np.asarray(picture, float) - np.asarray(faces.images.read(faces.table.path[row]), float))
        assert near.mean() < 4


def test_every_field_of_a_fiftyone_sample_is_declared(found, tmp_path):
    faces, results = found
    told = json.loads(fx.to_fiftyone(faces, tmp_path, **results).read_text())
    kinds = {bool: "Boolean", int: "Int", float: "Float", str: "String", dict: "EmbeddedDocument", list: "List"}
    for sample in told["samples"]:
        for name, value in sample.items():
            if value is not None and name != "_media_type":
                assert f".{kinds[type(value)]}Field" in told["sample_fields"][name], name


def test_columns_that_fiftyone_has_itself_get_another_name(drawn_faces, tmp_path):
    faces = drawn_faces[:2]
    faces.table = faces.table.assign(**{"id": [7, 8], "skin.tone": ["a", None], "_x": [0.5, np.nan], "tags": ["</script>", "b"]})
    first, second = json.loads(fx.to_fiftyone(faces, tmp_path).read_text())["samples"]
    assert (first["id_label"], first["skin-tone"], first["-x"], first["tags_label"]) == (7, "a", 0.5, "</script>")
    assert second["skin-tone"] is second["-x"] is None


def test_what_spotlight_gets_reads_back_as_a_face_set(found, tmp_path):
    from pyarrow import parquet

    faces, results = found
    path = fx.to_spotlight(faces, tmp_path, **results)
    again = fx.load_faces("parquet", root=tmp_path, target="gender")
    assert again.table.gender.tolist() == faces.table.gender.tolist()
    assert again.table.predicted.tolist() == results["predictions"].predicted.tolist()
    near = np.abs(np.asarray(again.images.read(again.table.path[3]), float) - np.asarray(faces.images.read(faces.table.path[3]), float))
    assert near.mean() < 4
    table = parquet.read_table(path)
    with Image.open(io.BytesIO(table.column("map_class_1")[0].as_py()["bytes"])) as veiled:
        lit = np.asarray(veiled.convert("L"), float)
    best = np.unravel_index(results["maps"].attribution.values[1, 0].argmax(), results["maps"].attribution.shape[2:])
    side = lit.shape[0] // results["maps"].sizes["y"]
    assert lit[best[0] * side : (best[0] + 1) * side, best[1] * side : (best[1] + 1) * side].mean() > 2 * lit.min()


def test_results_of_other_faces_are_refused(found, tmp_path):
    faces, results = found
    for name, result in results.items():
        with pytest.raises(FacexkitError, match=f"the {name} have 6 faces"):
            fx.to_fiftyone(faces[:6], tmp_path, **{name: result})
    assert not list(tmp_path.iterdir())
