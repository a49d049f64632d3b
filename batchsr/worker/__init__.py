"""Workers: they claim jobs, restore them, and let go of them, whatever happens.

worker.py          claims files and has them restored until none is left; options.py: how it behaves
in_flight.py       the files it has in hand, each in a thread, all before one model
attempt.py         one claim of one file, from the queue to its output
remote_files.py    the same where source or output is in a store
outcomes.py        what becomes of the job then
listener.py        what is told of all that

space.py           room on the disks before a file is begun
diagnosis.py       what an error says about the place that a file is on
shares.py          whether a share is mounted here
store_troubles.py  the same of a store
places.py          places in trouble: their jobs wait
pauses.py          what lets the whole queue wait
agreement.py       record and sidecar follow an output that two hosts have replaced
recovery.py        outputs that stand there already and prove themselves

supervisor.py      several workers: those that die or hang are replaced
variant_loop.py    one process, one variant after the other
forecast.py        what a batch will take
maintenance.py     verify, and remove what nobody needs
undo.py            take outputs back
"""
