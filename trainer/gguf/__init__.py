"""Adapters and models as llama.cpp reads them: GGUF files, written without torch.

    architectures.py   what llama.cpp calls each module, and in which order it keeps the rows
    pairs.py           a PEFT adapter as pairs of matrices, or all that keeps it from being one
    lora.py            an adapter as a GGUF file
    files.py           whole or not there
    readback.py        reads such a file back and compares it with the adapter
    merged.py          a whole model with the adapter in it

`python -m trainer.gguf ADAPTER --base BASE --output FILE` does it by hand.
"""
