"""The built-in faces: the same everywhere, exact masks, labels that are drawn, shortcuts that are planted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facexkit.drawn.drawing import draw, masks_of, picture_of
from facexkit.drawn.people import AGES, COHORTS, SHORTCUTS, Recipe
from facexkit.drawn.synthetic import CONCEPTS, KEPT, DrawnFaces, DrawnMasks, synthetic_faces
from facexkit.errors import FacexkitError
from facexkit.faces.formats import load_faces
from facexkit.faces.regions import FACE_DICTIONARY, REGIONS

PATHS = [f"{n:06d}_0.png" for n in range(24)]
WHERE = {"brows": ("l_brow", "r_brow"), "u_lip": ("u_lip", "l_lip")}


def pixels(recipe: Recipe, path: str) -> np.ndarray:
    return np.asarray(DrawnFaces(recipe).read(path)).astype(int)


@pytest.fixture(scope="module")
def people() -> list[tuple]:
    """24 faces with their picture, region masks and concept masks."""
    recipe = Recipe()
    regions, concepts = DrawnMasks(recipe), DrawnMasks(recipe, "concepts")
    return [(recipe.face(p), pixels(recipe, p), regions.read(p), concepts.read(p)) for p in PATHS]


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**40), order=st.permutations(PATHS[:3]))
def test_same_seed_same_face_in_any_order(seed, order):
    first = {path: DrawnFaces(Recipe(48, seed)).read(path).tobytes() for path in PATHS[:3]}
    again = {path: DrawnFaces(Recipe(48, seed)).read(path).tobytes() for path in order}
    assert first == again and len(set(first.values())) == 3
    assert DrawnFaces(Recipe(48, seed + 1)).read(PATHS[0]).tobytes() != first[PATHS[0]]


def test_a_longer_table_begins_with_the_shorter_one():
    short, long = synthetic_faces(20)[0], synthetic_faces(60)[0]
    assert long[:20].equals(short)


def test_workers_draw_what_one_process_draws():
    faces = load_faces("synthetic", limit=6)
    alone, shared = (next(faces.batches(128, 6, workers=n)) for n in (0, 2))
    assert (alone.images == shared.images).all()


def test_a_digest_changes_with_what_the_face_is_made_from():
    recipe = Recipe()
    others = [replace(recipe, **change) for change in ({"seed": 1}, {"size": 64}, {"shortcut": "hat"})]
    digests = {DrawnFaces(r).digest(path) for r in (recipe, *others) for path in PATHS[:2]}
    assert len(digests) == 8 and DrawnFaces(recipe).digest(PATHS[0]) == DrawnFaces(Recipe()).digest(PATHS[0])


def test_every_pixel_has_a_region_and_every_region_is_drawn(people):
    seen = set()
    for _, _, masks, _ in people:
        assert np.any(list(masks.values()), axis=0).all()
        assert all(mask.shape == (128, 128) and mask.any() for mask in masks.values())
        seen |= set(masks)
    assert seen == set(REGIONS)


def test_the_persons_left_is_on_the_images_right(people):
    for _, _, masks, concepts in people:
        for left, right, of in (
            *((f"l_{part}", f"r_{part}", masks) for part in ("eye", "brow", "ear")),
            *((f"left_{part}", f"right_{part}", concepts) for part in ("eye", "brow", "cheek")),
        ):
            if left in of and right in of:
                assert np.nonzero(of[left])[1].mean() > np.nonzero(of[right])[1].mean()


def test_features_lie_in_their_order(people):
    for _, _, masks, _ in people:
        height = {name: np.nonzero(mask)[0].mean() for name, mask in masks.items()}
        order = ("l_brow", "l_eye", "nose", "u_lip", "l_lip", "neck", "cloth")
        assert sorted(order, key=height.get) == list(order)


def test_accessories_are_there_if_and_only_if_the_labels_say_so(people):
    for face, _, masks, concepts in people:
        for label, region in (("glasses", "eye_g"), ("hat", "hat"), ("necklace", "neck_l"), ("earrings", "ear_r"),
                              ("mouth_open", "mouth")):  # fmt: skip
            assert (region in masks) == bool(face.labels[label])
        for label, concept in (("glasses", "Eyeglasses"), ("lipstick", "Wearing_Lipstick"), ("smiling", "Smiling"),
                               ("rosy_cheeks", "Rosy_Cheeks"), ("bushy_brows", "Bushy_Eyebrows")):  # fmt: skip
            assert (concept in concepts) == bool(face.labels[label])
        assert ("No_Beard" in concepts) == (face.labels["beard"] == "none")


def test_concepts_are_the_dictionarys_and_all_of_them_are_drawn():
    assert set(CONCEPTS) <= {name for names in FACE_DICTIONARY.values() for name in names}
    masks = synthetic_faces(1)[2].concepts
    drawn = set()
    for path in (f"{n:06d}_0.png" for n in range(120)):
        drawn |= set(masks.read(path))
        if drawn == set(CONCEPTS):
            break
    assert drawn == set(masks.names) == set(CONCEPTS)


def test_the_concept_mouth_is_the_whole_mouth_and_the_region_only_its_inside(people):
    for _, _, masks, concepts in people:
        lips = masks["u_lip"] | masks["l_lip"]
        assert (concepts["mouth"] == lips | masks.get("mouth", False)).all()
        assert (concepts["left_eye"] == masks["l_eye"]).all()


def test_faces_are_antialiased():
    recipe = Recipe()
    skin = next(layer for layer in draw(recipe.face(PATHS[0]), 128) if layer.region == "skin")
    partly = (skin.alpha > 0) & (skin.alpha < 1)
    assert partly.sum() > 60 and len(np.unique(skin.alpha[partly].round(2))) > 10


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_look_changes_the_pixels_of_its_region_and_no_others(shortcut):
    label, regions = SHORTCUTS[shortcut], WHERE.get(shortcut, (shortcut,))
    for path in PATHS[:4]:
        face = Recipe().face(path)
        looks = []
        for look in (0, 1):
            recipe = Recipe(shortcut=shortcut, strength=1.0, target="gender")
            labels = {**face.labels, label: look}
            drawn = redrawn(recipe, path, labels)
            layers = draw(drawn, 128)
            looks.append((picture_of(layers, drawn).astype(int), masks_of(layers)))
        changed = np.abs(looks[0][0] - looks[1][0]).sum(-1) > 0
        allowed = np.any([masks.get(r, np.zeros_like(changed)) for _, masks in looks for r in regions], axis=0)
        assert changed.sum() > 8
        assert not (changed & ~allowed).any(), shortcut


def redrawn(recipe: Recipe, path: str, labels: dict):
    """Return the face of a path as it would be with other labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "labels", lambda self, identity: labels)
        return recipe.face(path)


def test_lipstick_reddens_the_lips(people):
    redness = {0: [], 1: []}
    for face, image, masks, _ in people:
        lips = image[masks["l_lip"]].mean(0)
        redness[face.labels["lipstick"]].append(lips[0] / lips[1])
    assert min(redness[1]) > np.median(redness[0]) and np.median(redness[1]) > 1.6 * np.median(redness[0])


def test_skin_tone_and_cohort_are_seen(people):
    light = {"bright": [], "dark": []}
    for face, image, masks, _ in people:
        light[face.labels["skin_tone"]].append(image[masks["skin"]].mean())
    assert np.mean(light["bright"]) > 1.4 * np.mean(light["dark"])


@pytest.mark.parametrize("cohort", COHORTS[1:])
def test_a_cohort_differs_in_colour_and_in_nothing_else(cohort):
    face = Recipe().face(PATHS[1])
    layers = draw(face, 64)
    plain, other = (replace(face, labels={**face.labels, "cohort": c}) for c in (COHORTS[0], cohort))
    assert (picture_of(layers, plain) != picture_of(layers, other)).any(-1).mean() > 0.9
    assert all(a.alpha.tobytes() == b.alpha.tobytes() for a, b in zip(draw(plain, 64), draw(other, 64), strict=True))


def test_pictures_of_one_identity_share_the_person_and_not_the_picture():
    table, images, _ = synthetic_faces(9, pictures_per_identity=3)
    assert table.identity.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    first, second = (images.recipe.face(path) for path in table.path[:2])
    assert first.shape == second.shape and first.labels == second.labels
    assert first.picture != second.picture and images.read(table.path[0]) != images.read(table.path[1])


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_agrees_in_training_as_often_as_asked_and_by_chance_in_the_test_split(shortcut):
    table = synthetic_faces(1500, shortcut=shortcut, strength=0.9, seed=3)[0]
    agrees = (table.gender == "female") == (table[SHORTCUTS[shortcut]] == 1)
    assert (agrees == table.agrees).all() and (table.shortcut == table[SHORTCUTS[shortcut]]).all()
    train, test = agrees[table.split == "train"].mean(), agrees[table.split == "test"].mean()
    assert abs(train - 0.9) < 4 * np.sqrt(0.09 / 900)
    assert abs(test - 0.5) < 4 * np.sqrt(0.25 / 600)


def test_without_a_shortcut_a_look_says_nothing_about_gender():
    table = synthetic_faces(2000)[0]
    assert "agrees" not in table
    for label in SHORTCUTS.values():
        by_gender = table.groupby("gender")[label].mean()
        assert abs(by_gender.female - by_gender.male) < 4 * np.sqrt(0.5 / 1000)


def test_a_shortcut_can_be_tied_to_another_label():
    table = synthetic_faces(400, shortcut="cloth", strength=1.0, target="smiling", split="train")[0]
    assert (table.split == "train").all() and len(table) == 240
    assert (table.warm_clothes == table.smiling).all()


def test_the_shortcut_leaves_everybody_else_as_they_were():
    plain, planted = synthetic_faces(50)[0], synthetic_faces(50, shortcut="hat")[0]
    assert plain.drop(columns="hat").equals(planted.drop(columns=["hat", "shortcut", "agrees"]))


def test_labels_have_the_values_that_the_kit_names():
    table = synthetic_faces(300)[0]
    assert set(table.gender) == {"female", "male"} and set(table.skin_tone) == {"bright", "dark"}
    assert set(table.age) == set(AGES) and set(table.cohort) == set(COHORTS) and len(COHORTS) == 4
    assert (table.split == "test").mean() == 0.4 and len(SHORTCUTS) >= 8
    assert (table.beard[table.gender == "female"] == "none").all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shortcut": "u_lips"}, "unknown shortcut 'u_lips'; did you mean 'u_lip'"),
        ({"shortcut": "hat", "target": "age"}, "unknown two-valued label"),
        ({"shortcut": "hat", "target": "hat"}, "itself"),
        ({"split": "trian"}, "did you mean 'train'"),
        ({"strength": 1.5}, "strength = 1.5"),
        ({"count": 0}, "count = 0"),
        ({"size": 4}, "size = 4"),
    ],
)
def test_wrong_options_are_refused_with_what_to_do(options, message):
    with pytest.raises(FacexkitError, match=message):
        synthetic_faces(**options)


def test_what_a_run_keeps_of_a_drawn_face_is_what_is_drawn(tmp_path, monkeypatch):
    faces = load_faces("synthetic", limit=6)
    seen = lambda: [(np.asarray(faces.images.read(p)), faces.masks.read(p), faces.masks.concepts.read(p)) for p in faces.table.path]  # noqa: E731
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path))
    first, again = seen(), seen()
    assert len(list((tmp_path / "drawn").iterdir())) == 3 * len(faces)
    monkeypatch.delenv("FACEXKIT_CACHE")
    for drawn, *kept in zip(seen(), first, again, strict=True):
        for one in kept:
            np.testing.assert_array_equal(one[0], drawn[0])
            for masks, truth in zip(one[1:], drawn[1:], strict=True):
                assert masks.keys() == truth.keys()
                assert all(mask.dtype == bool and (mask == truth[name]).all() for name, mask in masks.items())


def test_of_persons_beyond_the_first_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEXKIT_CACHE", str(tmp_path))
    load_faces("synthetic", limit=1).images.read(f"{KEPT:06d}_0.png")
    assert not list(tmp_path.iterdir())
