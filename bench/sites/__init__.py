"""Where the suite's own programs run that make load and scrape.

They talk in lines and blocks over standard input and output, so that one is the same thing as
a process of this machine and in a pod. They end when their input says `end`, or is closed.
"""
