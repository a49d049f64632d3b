"""What programs leave among people's files: one table for searched folders, globs and the hot folder.

Metadata and thumbnails of file servers, bins and old versions, copies that are still being written, lock files: some of
it has the name of a recording and holds a part of one, or none. It is left out, and said to be.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Final

from batchsr.temporary import TEMPORARY_PREFIX

# Never entered. In lower case, since shares differ in it.
_FOLDERS: Final = (
    *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "#sync", "@appstore"),  # Synology
    *("@recycle", "@recently-snapshot", ".@__thumb", ".@upload_cache", ".streams"),  # QNAP
    *(".appledouble", ".appledesktop", "network trash folder", "temporary items", ".appledb"),  # netatalk
    *("__macosx", ".spotlight-v100", ".fseventsd", ".trashes", ".trash", ".temporaryitems", ".documentrevisions-v100"),
    *(".trash-*", ".caltrash"),  # freedesktop.org's
    *("$recycle.bin", "recycler", "recycled", "system volume information", "found.[0-9][0-9][0-9]"),  # Windows
    *("lost+found", ".snapshot", ".snapshots", "~snapshot", ".zfs", ".ckpt", ".glusterfs"),  # file systems
    *(
        ".stversions",
        ".stfolder",
        ".sync",
        ".!sync",
        ".rsync-partial",
        ".~tmp~",
        ".rsync-tmp",
    ),
    *(".dropbox.cache", ".dropbox", ".owncloud", ".nextcloud", ".tmp.drivedownload", ".tmp.driveupload"),
    "batchsr-undone",  # our own: what `undo` took back
    *(".git", ".svn", ".hg", ".bzvol", ".backups.backupdb", "backups.backupdb"),
)
# Never taken.
_FILES: Final = (
    "._*",  # macOS: the resource fork of the file beside it
    *(".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".localized"),
    *(".~*", "~$*", ".#*", "#*#", "*~", "*.swp", "*.lock", "~*.tmp"),  # office programs' and editors' locks and copies
    *("*.part", "*.partial", "*.filepart", "*.crdownload", "*.download", "*.opdownload", "*.aria2", "*.!ut", "*.bc!"),
    *("*.tmp", "*.temp", "*.!qb", "*.!sync", "*.icloud", "*.~[0-9a-f]*", "*.sb-*-*"),
    *(".nfs[0-9a-f]*", ".fuse_hidden*", ".smbdelete*", ".afpdeleted*", ".__afp*", ".smb????????*"),  # deleted, but open
    *(".syncthing.*", "~syncthing~*", ".goutputstream-*", ".in.*", ".pureftpd-upload*", ".goodsync*", ".sync_*"),
    f"{TEMPORARY_PREFIX}*",  # our own
)
_FOLDER: Final = re.compile("|".join(map(fnmatch.translate, _FOLDERS)))
_FILE: Final = re.compile("|".join(map(fnmatch.translate, _FILES)))
_RSYNC: Final = re.compile(r"\..+\.[A-Za-z0-9]{6}")
_MARKED: Final = re.compile(r"\.wav|\.[a-z0-9]{2,4}\.", re.IGNORECASE)


def is_left_folder(name: str) -> bool:
    """Return whether a folder of this name is a program's, and not entered."""
    return _FOLDER.fullmatch(name.lower()) is not None


def is_left_file(name: str) -> bool:
    """Return whether a file of this name is a program's, and not taken."""
    if _FILE.fullmatch(name.lower()):
        return True
    # rsync's and other copies in the making: a dot, the name with its extension, a dot, six letters.
    return _RSYNC.fullmatch(name) is not None and _MARKED.search(name[:-6]) is not None
