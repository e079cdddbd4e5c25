"""A program for `accelerate launch`: a tiny run into the folder that it is given."""

import sys

import torch

from tests.training.tiny import make_options, run

if __name__ == "__main__":
    on_cpu = not torch.cuda.is_available()
    run(sys.argv[1], options=make_options(per_device_train_batch_size=1, use_cpu=on_cpu))
    torch.distributed.destroy_process_group()
