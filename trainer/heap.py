"""Memory that a step gives back is kept for the next one, where the C library is glibc."""

from __future__ import annotations

import ctypes

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1


def keep_freed() -> bool:
    """From now on this process keeps what it frees; False where the library cannot be told so.

    Otherwise large tensors are taken from the system and given back at every step, and each of
    their pages is faulted in and zeroed anew. The peak is as before; between the peaks nothing is
    given to others.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MOST) and mallopt(M_TRIM_THRESHOLD, MOST))
