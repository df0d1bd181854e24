"""ONNX files as networks, for batches of any size."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from facexkit.errors import FacexkitError, told
from facexkit.models.sources import Made, Wish, register_source
from facexkit.models.preprocess import Preprocess
from facexkit.models.weights import load_weights

if TYPE_CHECKING:
    from onnx import ModelProto


@register_source("onnx")
def _from_onnx(path: str, wish: Wish) -> Made:
    with told("ONNX models need the extra 'onnx'", "pip install 'facexkit[onnx]'", ImportError):
        import onnx
        from onnx2torch import convert
    if not Path(path).is_file():
        raise FacexkitError(f"onnx: there is no file {path}")
    with told(f"{path} cannot be read as ONNX"):
        whole = onnx.load(path)
        network = convert(whole)
    weights = {tensor.name for tensor in whole.graph.initializer}
    sizes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in whole.graph.input if i.name not in weights]
    if len(sizes) != 1 or len(sizes[0]) != 4:
        shapes = ", ".join("×".join(map(str, size)) or "a number" for size in sizes) or "nothing"
        raise FacexkitError(f"{path} takes {shapes}, not one batch of images (batch, 3, height, width)")
    count, channels, height, width = sizes[0]
    size = (height or 224, width or 224)
    if count == 1:
        image = torch.rand(1, channels or 3, *size, generator=torch.Generator().manual_seed(0))
        with suppress(Exception), torch.no_grad():  # what keeps it from running is told where it is tried out
            for_batches = convert(_for_batches(whole)).eval()
            torch.testing.assert_close(for_batches(image), network.eval()(image), rtol=1e-3, atol=1e-4)
            network = for_batches
    if wish.weights is not None:
        load_weights(network, wish.weights, wish.trust)
    made = Made(network, preprocess=Preprocess(size, channels="grey" if channels == 1 else "RGB"))
    ends = [[d.dim_value for d in out.type.tensor_type.shape.dim] for out in whole.graph.output]
    if size == (112, 112) and len(ends) == 1 and ends[0][-1] >= 128:  # as insightface's recognition models are
        scaled = {node.op_type for node in whole.graph.node[:8]} & {"Sub", "Mul"}
        made.outputs, made.preprocess = "embedding", Preprocess(size, normalize="none" if scaled else "half")
    return made


def _for_batches(whole: ModelProto) -> ModelProto:
    """Let what was exported for a single image keep the number of its images where it reshapes."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    for node in (node for node in whole.graph.node if node.op_type == "Constant"):
        values |= {node.output[0]: numpy_helper.to_array(given.t) for given in node.attribute if given.name == "value"}
    for place, node in enumerate(whole.graph.node):
        shape = values.get(node.input[1]) if node.op_type == "Reshape" and node.input[0] not in values else None
        if shape is not None and len(shape) > 1 and shape[0] == 1:
            node.input[1] = f"shape of any batch {place}"
            whole.graph.initializer.append(numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), node.input[1]))
    return whole
