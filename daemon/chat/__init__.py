"""Answering people: an OpenAI-compatible endpoint over the releases of the local target.

settings.py   `[serving]`, off until somebody sets it up
lineup.py     which releases answer, on which line, how much of the traffic
keeper.py     the process that answers: started, replaced when releases change, started again
request.py    what a client asks, and whether we can do it
upstream.py   one question to the process, and its answer piece by piece
envelope.py   what a client is told, in the words of OpenAI's API
recording.py  an exchange as an experience, where the settings and the person let it be one
door.py       the two routes
describe.py   the same routes in the OpenAPI document
figures.py    what /metrics tells of all this
"""
