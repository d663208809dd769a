"""A stand-in for an Ollama server: its /api with its semantics, over llama.cpp's real numbers.

    library.py   blobs and manifests, copy and delete: what lies on its disk
    making.py    create: what it takes, by its era
    runners.py   models in memory, through xllamacpp, one for each base file
    answers.py   generate and chat
    golang.py    the part of Go's template language that our templates use
    server.py    the HTTP edge, and faults on demand

What it knows of Ollama stands in the facts that the project collected from its source (versions
0.24, 0.30 to 0.33 and 0.34.1); it was not held against a running server. It neither converts
safetensors nor quantizes nor pulls, and says so; it streams an answer in one piece.
"""
