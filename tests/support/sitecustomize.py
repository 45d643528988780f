"""Every Python process that a test starts imports this first, because this folder is on its import path."""

from no_pickle import refuse_unpickling

refuse_unpickling()
