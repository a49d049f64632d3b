"""What comes in: files, folders, patterns, URLs and manifests that somebody names, and what arrives in a hot folder.

gather.py           from what is named to jobs; manifest.py: a collection in a file
walk.py             folders and patterns; buckets.py: the same in object stores
leftovers.py        what is left out
known_files.py      files that the queue knows already
instructions.py     new settings for jobs that are queued; relocating.py: an archive that was moved

watcher.py          which files of a hot folder are whole; settle.py: when a file is
events.py           what the file system says of changes
hotfolder.py        what becomes of such files; moving.py: they move out when they are done
child_processes.py  the worker that a watcher starts
services.py         unit files for systemd and launchd
"""
