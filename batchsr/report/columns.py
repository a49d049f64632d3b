"""What the reports show of each job, by the names that a queue's `rows` has for it: the one place to add a column."""

from __future__ import annotations

from typing import Final

RECORD: Final = (
    *("id", "state", "batch", "source", "output", "variant", "revision", "sample_rate", "channels"),
    *("audio_s", "wall_s", "rtf", "windows_total", "windows_resumed", "attempts", "clipped_samples"),
    *("source_sha256", "output_sha256", "error_code", "error", "remarks", "finished_at"),
)
"""What the report for programs has, as CSV and JSON."""
JUDGED: Final = ("policy", "policy_breaks")
"""What they have besides where a policy is asked."""
TABLE: Final = ("id", "state", "file", "audio_s", "wall_s", "rtf", "x real time", "attempts", "error")
"""What the table for people has; `file` and `x real time` are made from `source` and `rtf`."""
TABLE_ROWS: Final = tuple("source" if name == "file" else name for name in TABLE if name != "x real time")
PAGE: Final = ("id", "state", "batch", "source", "output", "audio_s", "rtf", "error_code", "error", "remarks")
"""What the page has; its program finds them by these names."""
TEXT: Final = ("state", "source", "file", "error", "case", "figure")
"""Those that stand at the left of a table's column, as words do."""
