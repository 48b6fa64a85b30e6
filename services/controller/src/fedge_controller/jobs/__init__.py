"""Jobs on nodes: one after the other, or a few at a time, until all had their turn.

Pure decisions (``rounds``) over what the API holds; nothing is remembered elsewhere. A controller
that is killed at any moment, or one of several, goes on where the job's status says that it is: a
node's turn is written there first, and only what is written there is begun.
"""
