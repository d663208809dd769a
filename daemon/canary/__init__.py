"""The live watch: a release that people talk to is on trial beside its predecessor.

watch.py        looks at each trial, and does what follows
judgement.py    what live answers say of a release, and what follows from it; pure
sequential.py   how strongly answers speak against it, however often one looks; pure
settings.py     what a trial asks for
"""
