"""The graphs of a page."""

import base64
import gzip

import numpy as np
import onnx
import onnxruntime
import torch

from dpvae_cli.explorer.graphs import halve_weights, pack_graphs
from dpvae_cli.model import build
from tests.small import small_recipe


def test_weights_of_images_have_16_bits_and_pixels_stay():
    model = build(small_recipe("vae", "prior=standard_normal"), example_shape=(1, 8, 8))
    content = gzip.decompress(base64.b64decode(pack_graphs(model)["decoder"]))
    weights = onnx.load_from_string(content).graph.initializer
    kinds = {onnx.numpy_helper.to_array(weight).dtype for weight in weights if len(weight.dims) > 1}
    assert kinds == {np.dtype("float16")}
    z = 2 * torch.randn(1_000, model.latent_dim, generator=torch.Generator().manual_seed(0))
    [x] = onnxruntime.InferenceSession(content).run(None, {"z": z.numpy()})
    with torch.no_grad():
        assert np.abs(x - model.decode(z).numpy()).max() < 1 / 255


def test_weights_beyond_16_bits_stay():
    node = onnx.helper.make_node("MatMul", ["z", "weight"], ["x"])
    kind = onnx.TensorProto.FLOAT
    weight = np.float32([[1e5, 1.0]])
    graph = onnx.helper.make_graph(
        [node],
        "graph",
        [onnx.helper.make_tensor_value_info("z", kind, ["n", 1])],
        [onnx.helper.make_tensor_value_info("x", kind, ["n", 2])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    content = onnx.helper.make_model(graph).SerializeToString()
    [kept] = onnx.load_from_string(halve_weights(content)).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), weight)
