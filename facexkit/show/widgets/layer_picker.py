"""A model's layers as a tree to choose from."""

from __future__ import annotations

from html import escape

import traitlets as t

from facexkit.models.face_model import FaceModel
from facexkit.models.layers import list_layers
from facexkit.show.widgets.base import Widget, script, synced

DEPTHS = (
    (0.34, "early: its units answer to edges, colours and small textures"),
    (0.67, "in the middle: its units answer to parts of a face, such as an eye or a lip line"),
    (1.01, "late: its units answer to larger arrangements, close to what the decision is made from"),
)


class LayerPicker(Widget):
    """The modules of a model with output shape, units and parameters; those that cannot be explained say why.

    `layer` is the chosen one, `search` what is looked for in names and types.
    """

    _esm = script("layers")
    layer = synced(t.Unicode())
    search = synced(t.Unicode())
    layers = synced(t.List())
    told = synced(t.Unicode())
    group = synced(t.Unicode())

    def __init__(self, model: FaceModel, layer: str | None = None) -> None:
        self.model, self.table = model, list_layers(model)
        rows = [
            {
                "name": name, "parent": name.rpartition(".")[0], "type": row.type, "problem": row.problem,
                "shape": f"{row.units} units of {row.height}×{row.width}", "parameters": f"{row.parameters:,}",
            }
            for name, row in self.table.iterrows()
        ]  # fmt: skip
        names = {row["name"] for row in rows}
        for row in rows:  # a parent that no forward pass calls has no row of its own
            while row["parent"] not in names and row["parent"]:
                row["parent"] = row["parent"].rpartition(".")[0]
        last = self.table.index[self.table.problem == ""][-1]
        super().__init__(title=f"Layers of {model.name}", layers=rows, group=f"{id(self)}", layer=layer or last)

    @t.validate("layer")
    def _can_be_explained(self, proposal: dict) -> str:
        self.model.layer(proposal["value"])
        return proposal["value"]

    @t.observe("layer")
    def _say(self, _change: object) -> None:
        row = self.table.loc[self.layer]
        depth = next(words for end, words in DEPTHS if row.depth < end)
        self.told = f"{self.layer} ({row.type}, {row.units} units of {row.height}×{row.width}) lies {depth}."

    def still(self) -> str:
        shown = "".join(f"<li>{escape(r['name'])}: {escape(r['problem'] or r['shape'])}</li>" for r in self.layers)
        return f"<p>{escape(self.told)}</p><details><summary>All layers</summary><ul>{shown}</ul></details>"
