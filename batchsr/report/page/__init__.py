"""The report as a page: one file that works offline, on a phone, and with a hundred thousand rows.

build.py     the file: rows as they stream by, the files to hear, style and script
heard.py     one file to hear: pictures, clips, its sidecar in words
choosing.py  which files to hear: the worst figures, and a sample
preview.py   a stretch of a recording, restored in several ways
page.html, page.css, page.js   what is shown, and how
player.js   pictures and sound of a file, before and after; `serve` has it as well
"""
