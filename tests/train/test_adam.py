import subprocess
import sys

import torch

from aesearch.train.adam import Adam


def test_it_is_the_fused_adam_of_torch_to_the_last_bit():
    torch.manual_seed(0)
    start = [torch.randn(3, 4), torch.randn(5), torch.randn(2)]
    own, theirs = ([tensor.clone().requires_grad_() for tensor in start] for _ in range(2))
    adam = Adam(own, 1e-3, (0.5, 0.9))
    reference = torch.optim.Adam(theirs, lr=1e-3, betas=(0.5, 0.9), fused=True)
    for step in range(1, 20):
        for parameters, optimizer, forget in ((own, adam, adam.clear), (theirs, reference, reference.zero_grad)):
            forget()
            # The last has no gradient at first: its steps are counted from its first one.
            used = parameters if step > 5 else parameters[:2]
            sum((parameter**2 * step).sum() for parameter in used).backward()
            optimizer.step()
        assert all(torch.equal(mine, other) for mine, other in zip(own, theirs, strict=True))
    slots = reference.state_dict()["state"]
    known = {f"{i}/{slot}": tensor for i, of_one in slots.items() for slot, tensor in of_one.items()}
    assert known.keys() == adam.state().keys()
    assert all(torch.equal(known[name], tensor) for name, tensor in adam.state().items())


def test_training_does_not_import_the_compiler(data_root):
    """It takes a second of each process that trains."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from aesearch.datasets import Digits\nfrom aesearch.networks import MLP\nfrom aesearch.objectives import VAE\n"
        "from aesearch.train import TrainConfig, train\n"
        "config = TrainConfig(Digits(), MLP((8,)), 3, VAE(), epochs=1)\n"
        "list(train(config, config.data.load(Path(sys.argv[1]))))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(data_root)], check=True, timeout=120)
