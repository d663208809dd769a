"""Steps of a block that are one step of autograd each, with the gradient written out (torch).

Where transformers and PEFT take five or ten small steps, each reads and writes the whole batch, and
on a processor that takes longer than the matrix products. What they compute is the same.
"""
