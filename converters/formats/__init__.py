"""The formats that a dataset can be written in, one file each; the roster is in `converters`."""
