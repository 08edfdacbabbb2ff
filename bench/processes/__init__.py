"""Programs that the suite starts: its own and those of others, here and in pods.

The suite's own programs talk in lines and blocks over standard input and output, so that one is
the same thing as a process of this machine and in a pod. They end when their input says `end`,
or is closed.
"""
