"""What a collection keeps of the work: the record in words and for other programs, packages, history.

records.py          the record of a file; explain.py: in words
policy.py           what is demanded of outputs
history.py          a queue's history from its outputs

export.py           a batch as a package, whole or not at all
contents.py         what goes into it, and under which names
package_files.py    its files, brought and read
premis.py, bag.py   PREMIS 3, BagIt
checksums.py        lists of checksums
mark.py             what tells the program its own package
earlier_package.py  what is kept of the one before
exchange.py         the names beside a package
moving.py           outputs that move into it
second_copies.py    copies that are no jobs of their own
"""
