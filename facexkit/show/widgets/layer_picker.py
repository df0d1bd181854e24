"""A model's layers as a tree to choose from."""

from __future__ import annotations

from html import escape

import traitlets as t

from facexkit.models.face_model import FaceModel
from facexkit.models.layers import list_layers
from facexkit.show.widgets.base import Widget, a_line, rows, script, text

DEPTHS = {
    0.34: "early: its units answer to edges, colours and small textures",
    0.67: "in the middle: its units answer to parts of a face, such as an eye or a lip line",
    1.01: "late: its units answer to larger arrangements, close to what the decision is made from",
}


def _a_layer(picker: LayerPicker, value: object) -> bool:
    return value in [row["name"] for row in picker.layers if not row["problem"]]


class LayerPicker(Widget):
    """The modules of a model with output shape, units and parameters; those that cannot be explained say why.

    `layer` is the chosen one, the last with places to look at by default; `search` is looked for in names and types.
    """

    _esm = script("layers")
    layer, search, told, layers = text(fits=_a_layer), text(fits=a_line), text(), rows()

    def __init__(self, model: FaceModel, layer: str | None = None) -> None:
        self.model, self.table = model, list_layers(model)
        table, found = self.table, []
        for name, row in table.iterrows():
            above = [name[:k] for k, letter in enumerate(name) if letter == "." and name[:k] in table.index]
            shape = f"{row.units} units of {row.height}×{row.width}"
            told = {"type": row.type, "shape": shape, "parameters": f"{row.parameters:,}", "problem": row.problem}
            found.append({"name": name, "parent": above[-1] if above else "", **told})
        last = table.index[table.problem == ""][(table.height[table.problem == ""] > 1).to_numpy().cumsum().argmax()]
        super().__init__(title=f"Layers of {model.name}", layers=found, layer=layer or last)

    @t.validate("layer")
    def _can_be_explained(self, proposal: dict) -> str:
        self.model.layer(proposal["value"])
        return proposal["value"]

    @t.observe("layer")
    def _say(self, _change: object) -> None:
        row, where = self.table.loc[self.layer], next(end for end in DEPTHS if self.table.depth[self.layer] < end)
        self.told = f"{self.layer} ({row.type}, {row.units} units of {row.height}×{row.width}) lies {DEPTHS[where]}."

    def still(self) -> str:
        shown = "".join(f"<li>{escape(r['name'])}: {escape(r['problem'] or r['shape'])}</li>" for r in self.layers)
        every = f"<details><summary>all {len(self.layers)} layers</summary><ul>{shown}</ul></details>"
        return f"<p>{escape(self.told)}</p>{every}"
