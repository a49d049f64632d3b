"""One recording, from its file to its output.

restore.py            all of it, start to end; task.py: what is asked for, and what comes of it
single.py             the same without a queue
refusals.py           what is refused before anything is computed
source_identity.py    whether the source stayed the same file
recording.py          the source as streams, brought to 48 kHz
stages/               what it goes through before the model
spool.py, slots.py    its denoised sound, computed once
separation.py         its stems
warm_up.py            what a process loads before its first file

pipeline.py           its windows past the model, and joined behind it
batcher.py            windows of many files in one pass
scratch.py            the finished windows of an unfinished file

measurements.py       what is measured on the way
copies.py             copies for access, and stems as files
credentials.py        signed statements in them
publishing.py         the output gets its name, then its sidecar
sidecar.py            what the sidecar says
sidecar_form.py       the form that is published; sidecar_versions.py: earlier ones
sidecar_reading.py    sidecars that stand on the disk
words_of_outputs.py   which words are no longer heard in an output made earlier
"""
