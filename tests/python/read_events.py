"""Prints the events of a run's folder as TensorBoard's own reader has them, as JSON.

    python read_events.py FOLDER

Scalars are lists of [step, value]; images are lists of [step, height, width] of the decoded PNG; texts are lists of [step, text].
"""

import io
import json
import sys

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

# 0 keeps all events of a kind; by default the reader keeps samples.
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "tensors": 0})
events.Reload()
tags = events.Tags()


def size(png):
    image = Image.open(io.BytesIO(png))
    image.load()
    return [image.height, image.width]


texts = {}
for tag in tags["tensors"]:
    assert events.SummaryMetadata(tag).plugin_data.plugin_name == "text", tag
    read = lambda event: tensor_util.make_ndarray(event.tensor_proto).flatten()[0].decode()
    texts[tag] = [[event.step, read(event)] for event in events.Tensors(tag)]

json.dump(
    {
        "scalars": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]},
        "images": {
            tag: [[event.step, *size(event.encoded_image_string)] for event in events.Images(tag)]
            for tag in tags["images"]
        },
        "texts": texts,
    },
    sys.stdout,
)
