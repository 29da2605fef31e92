"""Feed of batches to the device.

The whole data set stays on the device if it fits. Otherwise batches are copied ahead of their use.
"""

import queue
import threading
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AHEAD = 2  # batches that are copied ahead of their use
SHARE = 0.5  # part of the GPU's free memory that a data set may take


class Feed:
    """Images of a data set, by index, on the device.

    images: (N, C, H, W), uint8 or float32.
    device: where batches are needed.
    streaming: True copies batches ahead of their use; False keeps all images on the device; None chooses by the
    device's free memory.
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | NDArray[np.float32],
        device: torch.device,
        streaming: bool | None = None,
    ) -> None:
        with warnings.catch_warnings():
            # The loop only reads images, so a read-only memory map does no harm.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.images = torch.from_numpy(np.asarray(images))
        self.device = device
        if streaming is None:
            streaming = device.type == "cuda" and images.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]
        self.streaming = streaming
        if not streaming:
            self.images = self.images.to(device)

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield batches of images (R, B, C, H, W), as stored, on the device.

        indices: (R, B) of each batch.
        """
        if not self.streaming:
            yield from map(self._gather, indices)
            return
        ready: queue.Queue[Tensor | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()
        worker = threading.Thread(target=self._copy_ahead, args=(indices, ready, stop), daemon=True)
        worker.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item.to(self.device, non_blocking=True)
        finally:
            stop.set()
            while worker.is_alive():
                _drain(ready)
                worker.join(0.01)

    def _gather(self, index: Tensor) -> Tensor:
        chosen = self.images.index_select(0, index.flatten().to(self.images.device))
        return chosen.view(*index.shape, *chosen.shape[1:])

    def _copy_ahead(
        self, indices: Sequence[Tensor], ready: "queue.Queue[Tensor | BaseException | None]", stop: threading.Event
    ) -> None:
        try:
            for index in indices:
                if stop.is_set():
                    return
                batch = self._gather(index.cpu())
                ready.put(batch.pin_memory() if self.device.type == "cuda" else batch)
            ready.put(None)
        except BaseException as error:
            ready.put(error)


def _drain(ready: "queue.Queue[Tensor | BaseException | None]") -> None:
    while not ready.empty():
        ready.get_nowait()


def scaled(raw: Tensor) -> Tensor:
    """Scale stored images for the model: uint8 to float32 in [0, 1]; floats stay."""
    return raw.to(torch.float32).div_(255) if raw.dtype == torch.uint8 else raw
