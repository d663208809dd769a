"""The live watch: a release that people talk to is on trial beside its predecessor.

sequential.py   how strongly answers speak against a release, however often one looks; pure
settings.py     what a trial asks for
"""
