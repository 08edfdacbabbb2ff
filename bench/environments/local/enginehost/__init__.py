"""The engine host: one process that imports vLLM once and forks every replica.

A vLLM server started as a command spends most of its start on imports, once in each
of its three processes: 56 s and 3 GB a replica. Forked from a host that has imported
everything, a replica is ready in a second or two and shares those pages.

Runs in the engine virtual environment, which has vLLM but not this project: nothing
here imports the rest of `bench`, and only `serving` imports vLLM.
"""
