"""Checks exported ONNX files with onnx's own checker, and compares what onnxruntime computes with expected values.

    python check_onnx.py FOLDER

FOLDER/cases.json is a list of {"file", "inputs": {name: .npy}, "output": .npy, "tolerance", "single"}. All arrays are f32 of shape
(N, values); images are in the order (H, W, C). With "single" the first image is computed alone, too. Prints a line of JSON for each
case: the file, the number of values, and the largest difference.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def feed(session, inputs, count):
    arrays = {}
    for value in session.get_inputs():
        assert value.shape[0] == "N", f"{value.name} has the batch size {value.shape[0]}"
        array = inputs[value.name][:count]
        shape = value.shape[1:]
        if len(shape) == 3:
            channels, height, width = shape
            array = array.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        arrays[value.name] = np.ascontiguousarray(array.reshape(len(array), *shape).astype(TYPES[value.type]))
    assert set(arrays) == set(inputs), f"inputs {sorted(arrays)} instead of {sorted(inputs)}"
    return arrays


def by_pixel(output):
    """(N, values), images in the order (H, W, C)."""
    if output.ndim == 4:
        output = output.transpose(0, 2, 3, 1)
    return output.reshape(len(output), -1).astype(np.float64)


folder = Path(sys.argv[1])
for case in json.loads((folder / "cases.json").read_text()):
    model = onnx.load(folder / case["file"])
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert {"model", "network", "weights", "step", "version", "range"} <= set(metadata), metadata
    for node in model.graph.node:
        assert all(attribute.name != "auto_pad" for attribute in node.attribute), node.name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / case["file"], options, providers=["CPUExecutionProvider"])
    inputs = {name: np.load(folder / file) for name, file in case["inputs"].items()}
    expected = np.load(folder / case["output"]).astype(np.float64)
    if session.get_outputs()[0].type == "tensor(uint8)":
        assert session.get_outputs()[0].shape[1] == 3
        if expected.shape[1] * 3 == np.prod(session.get_outputs()[0].shape[1:]):
            expected = np.repeat(expected, 3, axis=1)
    for count in [len(expected)] + ([1] if case["single"] else []):
        output = by_pixel(session.run(None, feed(session, inputs, count))[0])
        assert output.shape == expected[:count].shape, (case["file"], output.shape, expected.shape)
        assert np.isfinite(output).all()
        difference = float(np.abs(output - expected[:count]).max())
        assert difference <= case["tolerance"], f"{case['file']}: {difference} apart, at most {case['tolerance']} allowed"
        if count == len(expected):
            spread = float(expected.max() - expected.min())
            print(json.dumps({"file": case["file"], "values": output.size, "difference": difference, "spread": spread}))
