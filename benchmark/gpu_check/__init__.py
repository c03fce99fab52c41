"""What a GPU is asked in its first minutes: are the kernels right, and how fast is what they are part of?

One process, `command`, keeps the time and the record; the work is done by `child` processes, which may crash
or hang without taking anything along.
"""
